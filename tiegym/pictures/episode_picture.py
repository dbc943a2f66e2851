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

from tiegym import ties as tie_vectors
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


def ties_text(ties: Ties, perplexity: float, iteration: int, max_iters: int) -> Text:
    """The state of an episode in a line of text for rich; `.plain` has it without colours.

    Each layer is a letter, and the layers that share weights have the same one in the same colour:
    the first of each letter, on a coloured ground, is the independent layer. (With more than 52
    independent layers each layer is the number of its root instead.) Line by line under each
    other, they are the film of the run.

    Args:
        ties: The tie vector, (L,).
        perplexity: On the validation set.
        iteration: Iterations so far.
        max_iters: Iterations in the episode.

    Examples:
        >>> ties_text(np.array([0, 0, 2, 2, 0, 5]), 85.3, 40, 400).plain
        'iteration  40/400  perplexity  85.3  3/6 independent  AABBAC'
    """
    roots = tie_vectors.roots(ties).tolist()
    own = tie_vectors.independent_layers(ties)
    count = f"{iteration:>{len(str(max_iters))}}/{max_iters}"
    share = f"{len(own):>{len(str(len(ties)))}}/{len(ties)}"
    if len(ties) <= _WORDS_FIT:
        text = Text(f"iteration {count}  perplexity {perplexity:>5.4g}  {share} independent  ")
    else:
        text = Text(f"{count}  ppl {perplexity:>5.4g}  {share}  ")
    if len(own) <= len(_LETTERS):
        names, gap = dict(zip(own, _LETTERS, strict=False)), ""
    else:
        names, gap = {root: str(root) for root in own}, " "
    for layer, root in enumerate(roots):
        shade = text_color(root)  # on a terminal whose ground is black, or white
        style = f"bold white on {shade}" if layer == root else f"bold {shade}"
        text.append(gap if layer else "").append(names[root], style)
    return text


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
    ties: Ties, history: Sequence[tuple[int, float]], max_iters: int
) -> npt.NDArray[np.uint8]:
    """The state of an episode as an image: who uses whose weights, and the perplexity so far.

    Layers stand in a column, the first at the bottom, coloured by the weights that they use. A
    full square has weights of its own; from each other layer, an empty circle, an arc leads to the
    one whose weights it uses. Below is the perplexity on the validation set.

    Args:
        ties: The tie vector, (L,).
        history: Iteration and validation perplexity after each step so far.
        max_iters: Iterations in the episode: where the perplexity's axis ends.

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
    draw_layers(layers, ties)
    layers.set_title(NODES.replace(", ", "\n"), loc="right", fontsize=9, color=GREY)
    _draw_curve(curve, history, max_iters)
    return figure_pixels(figure)


def draw_layers(axes: Axes, ties: Ties, ground: str = "white") -> None:
    """Draws the layers and their arcs on axes, on a ground of this colour.

    Args:
        axes: Of any figure.
        ties: The tie vector, (L,).
        ground: Fills the circles of tied layers.
    """
    roots, n_layer = tie_vectors.roots(ties), len(ties)
    angle = np.linspace(0, np.pi, 40)
    arcs = []
    for layer, root in enumerate(roots):
        middle, reach = (layer + root) / 2, (layer - root) / 2
        if reach:
            width = 0.08 + 0.9 * (layer - root) / max(n_layer - 1, 1)
            arcs.append(np.column_stack((width * np.sin(angle), middle - reach * np.cos(angle))))
    colors = [color(int(root)) for root in roots]
    tied = np.flatnonzero(roots != np.arange(n_layer))
    own = np.flatnonzero(roots == np.arange(n_layer))
    size = min(16.0, 330 / n_layer)  # points across: 48 layers still stand apart
    axes.add_collection(LineCollection(arcs, colors=[colors[i] for i in tied], linewidths=1.5))
    nodes = (  # layers, marker, size in points, what they are filled with
        (tied, "o", 0.6 * size, [ground] * len(tied)),
        (own, "s", 0.9 * size, [colors[i] for i in own]),
    )
    for chosen, marker, across, fill in nodes:
        axes.scatter(
            np.zeros(len(chosen)),
            chosen,
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
    axes.set_title(f"{len(own)} of {n_layer} layers independent", loc="left", fontsize=12)
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
