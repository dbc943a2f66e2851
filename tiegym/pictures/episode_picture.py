"""How an environment shows itself: the ties as text and as an image.

Pictures of finished runs are in `tiegym.pictures.comparison`, heat maps of layers in
`tiegym.pictures.tie_film`.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from io import StringIO

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from rich.console import Console
from rich.text import Text

from tiegym import parts
from tiegym.pictures.colors import GREY, color, text_color
from tiegym.pictures.style import figure_pixels, perplexity_axis, tidy
from tiegym.ties import Ties

SIZE = (720, 560)
"""Height and width in pixels of what `draw_ties` draws: all frames of a video are alike."""

NODES = "square: own weights, circle: those its arc leads to"
"""What the nodes of `draw_layers` mean."""

_DPI = 100
_LETTERS = string.ascii_uppercase + string.ascii_lowercase
_WORDS_FIT = 24  # layers; with more of them a line of 80 characters has no room for words


def ties_text(
    ties: Ties,
    perplexity: float,
    iteration: int,
    max_iters: int,
    n_layer: int | None = None,
    n_frozen: int = 0,
) -> Text:
    """The state of an episode in a line of text for rich; `.plain` has it without colours.

    Each layer is a letter, and the layers that share weights have the same one in the same colour:
    the first of each letter, on a coloured ground, is the independent layer. (With more than 52
    independent layers each layer is the number of its root instead.) Line by line under each
    other, they are the film of the run. Of two parts the attention's come first, then the MLPs',
    each with letters of their own.

    Args:
        ties: The tie vector, (L,), or those of both parts, (2L,).
        perplexity: On the validation set.
        iteration: Iterations so far.
        max_iters: Iterations in the episode.
        n_layer: Layers L; None is one for each of `ties`.
        n_frozen: How many train no more.

    Examples:
        >>> ties_text(np.array([0, 0, 2, 2, 0, 5]), 85.3, 40, 400).plain
        'iteration  40/400  perplexity  85.3  3/6 independent  AABBAC'
    """
    n_layer = parts.depth(len(ties), n_layer)
    roots = parts.roots(ties, n_layer).tolist()
    own = sorted(set(roots))
    count = f"{iteration:>{len(str(max_iters))}}/{max_iters}"
    share = f"{len(own):>{len(str(len(ties)))}}/{len(ties)}"
    still = f"{n_frozen} frozen  " if n_frozen else ""
    if len(ties) <= _WORDS_FIT:
        text = Text(f"iteration {count}  perplexity {perplexity:>5.4g}  {share} independent  ")
    else:
        text = Text(f"{count}  ppl {perplexity:>5.4g}  {share}  ")
    text.append(still)
    letters = len(own) <= len(_LETTERS)
    for part, name in enumerate(_columns(len(ties), n_layer)):
        text.append("  " if part else "").append(f"{name} " if name else "")
        mine = [root for root in own if root // n_layer == part]
        places = enumerate(mine) if letters else ((root % n_layer, root) for root in mine)
        names = {root: _LETTERS[at] if letters else str(at) for at, root in places}
        for unit in range(part * n_layer, (part + 1) * n_layer):
            root = roots[unit]
            shade = text_color(root % n_layer)  # on a terminal whose ground is black, or white
            style = f"bold white on {shade}" if unit == root else f"bold {shade}"
            text.append("" if letters or not unit % n_layer else " ").append(names[root], style)
    return text


def _columns(n_units: int, n_layer: int) -> tuple[str, ...]:
    """What stands at the ties of each part of a layer; nothing where there is but one part."""
    return ("",) if n_units == n_layer else ("attention", "MLP")


def terminal_text(text: Text) -> str:
    """Text with the escape sequences that colour it in a terminal; NO_COLOR is heeded."""
    console = Console(file=StringIO(), force_terminal=True, color_system="truecolor")
    with console.capture() as captured:
        console.print(text, soft_wrap=True, end="")
    return captured.get()


def print_text(text: Text) -> None:
    """Prints a line on stdout: in colours on a terminal, in plain letters elsewhere."""
    Console().print(text, soft_wrap=True)


def draw_ties(
    ties: Ties,
    history: Sequence[tuple[int, float]],
    max_iters: int,
    n_layer: int | None = None,
    frozen: npt.ArrayLike | None = None,
) -> npt.NDArray[np.uint8]:
    """The state of an episode as an image: who uses whose weights, and the perplexity so far.

    Layers stand in a column, the first at the bottom, coloured by the weights that they use. A
    full square has weights of its own; from each other layer, an empty circle, an arc leads to the
    one whose weights it uses. Of two parts there are two columns, attention and MLP. What is
    frozen is an empty square. Below is the perplexity on the validation set.

    Args:
        ties: The tie vector, (L,), or those of both parts, (2L,).
        history: Iteration and validation perplexity after each step so far.
        max_iters: Iterations in the episode: where the perplexity's axis ends.
        n_layer: Layers L; None is one for each of `ties`.
        frozen: Which train no more, (L,) or (2L,); None is none.

    Returns:
        Red, green and blue, uint8 (720, 560, 3).
    """
    height, width = SIZE
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    layers, curve = figure.subplots(
        2,
        1,
        height_ratios=(3.2, 1),
        gridspec_kw={"left": 0.13, "right": 0.95, "top": 0.92, "bottom": 0.075, "hspace": 0.25},
    )
    draw_layers(layers, ties, "white", n_layer, frozen)
    nodes = (
        NODES if frozen is None or not np.any(frozen) else NODES.replace(",", " (empty: frozen),")
    )
    layers.set_title(nodes.replace(", ", "\n"), loc="right", fontsize=9, color=GREY)
    _draw_curve(curve, history, max_iters)
    return figure_pixels(figure)


def draw_layers(
    axes: Axes,
    ties: Ties,
    ground: str = "white",
    n_layer: int | None = None,
    frozen: npt.ArrayLike | None = None,
) -> None:
    """Draws the layers and their arcs on axes, on a ground of this colour.

    Args:
        axes: Of any figure.
        ties: The tie vector, (L,), or those of both parts, (2L,).
        ground: Fills the circles of tied layers, and the squares of frozen ones.
        n_layer: Layers L; None is one for each of `ties`.
        frozen: As of `draw_ties`.
    """
    n_layer = parts.depth(len(ties), n_layer)
    roots, units = parts.roots(ties, n_layer), np.arange(len(ties))
    columns = _columns(len(ties), n_layer)
    left, height = units // n_layer / len(columns), units % n_layer  # of each node
    angle = np.linspace(0, np.pi, 40)
    arcs = []
    for unit, root in enumerate(roots):
        middle, reach = (height[unit] + height[root]) / 2, (unit - root) / 2
        if reach:
            width = (0.08 + 0.9 * (unit - root) / max(n_layer - 1, 1)) / len(columns)
            arc = (left[unit] + width * np.sin(angle), middle - reach * np.cos(angle))
            arcs.append(np.column_stack(arc))
    colors = [color(int(root) % n_layer) for root in roots]
    still = np.zeros(len(ties), dtype=np.bool_) if frozen is None else np.asarray(frozen, np.bool_)
    tied = np.flatnonzero(roots != units)
    own = np.flatnonzero(roots == units)
    size = min(16.0, 330 / n_layer)  # points across: 48 layers still stand apart
    axes.add_collection(LineCollection(arcs, colors=[colors[i] for i in tied], linewidths=1.5))
    nodes = (  # layers, marker, size in points, what they are filled with
        (tied, "o", 0.6 * size, [ground] * len(tied)),
        (own, "s", 0.9 * size, [ground if still[i] else colors[i] for i in own]),
    )
    for chosen, marker, across, fill in nodes:
        axes.scatter(
            left[chosen],
            height[chosen],
            s=across**2,
            c=fill,
            marker=marker,
            edgecolors=[colors[i] for i in chosen],
            linewidths=min(2.0, size / 5),
            zorder=3,
            clip_on=False,
        )
    axes.set_ylim(-0.7, n_layer - 0.3)
    axes.set_xlim(-0.06, 1.02)
    axes.set_yticks(range(0, n_layer, 1 if n_layer <= 24 else 4))
    axes.set_xticks([])
    axes.set_ylabel("layer")
    if len(columns) > 1:
        axes.set_xticks(np.arange(len(columns)) / len(columns), columns)
        axes.tick_params(axis="x", length=0)
    what = "layers" if len(columns) == 1 else "parts"
    says = f"{len(own)} of {len(ties)} {what} independent"
    if still.any():
        says += f", {still.sum()} frozen"
    axes.set_title(says, loc="left", fontsize=12)
    tidy(axes)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_curve(axes: Axes, history: Sequence[tuple[int, float]], max_iters: int) -> None:
    iterations = [iteration for iteration, _ in history]
    perplexity = [value for _, value in history]
    title = "validation perplexity: nothing trained yet"
    if history:
        axes.plot(iterations, perplexity, color=color(0), linewidth=1.8)
        axes.plot(iterations[-1], perplexity[-1], "o", color=color(0), markersize=5, clip_on=False)
        at = f"iteration {iterations[-1]} of {max_iters}"
        title = f"validation perplexity {perplexity[-1]:.4g} at {at}"
        perplexity_axis(axes, "y", perplexity)
    else:
        axes.set_yticks([])
    axes.set_xlim(0, max_iters)
    axes.set_xlabel("iteration")
    axes.set_title(title, loc="left", fontsize=12)
    tidy(axes)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.8)
