"""How an environment shows itself: the ties as text and as an image.

Pictures of finished runs are in `tiegym.plots` (`plot_comparison` is importable from here too).
Nothing touches pyplot: its global state belongs to the user.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from tiegym import ties as tie_vectors
from tiegym.plots import GREY, color, perplexity_axis, plot_comparison, tidy
from tiegym.ties import Ties

__all__ = ["SIZE", "draw_ties", "plot_comparison", "ties_text"]

SIZE = (480, 640)
"""Height and width in pixels of what `draw_ties` draws: all frames of a video are alike."""

_DPI = 100
_LETTERS = string.ascii_uppercase + string.ascii_lowercase


def ties_text(ties: Ties, perplexity: float, iteration: int, max_iters: int) -> str:
    """The state of an episode in a line.

    Each layer is a letter, and the layers that share weights have the same one: the first of
    each letter is the independent layer. (With more than 52 independent layers each layer is
    the number of its root instead.)

    Args:
        ties: The tie vector, (L,).
        perplexity: On the validation set.
        iteration: Iterations so far.
        max_iters: Iterations in the episode.

    Examples:
        >>> ties_text(np.array([0, 0, 2, 2, 0, 5]), 85.3, 40, 400)
        'iteration  40/400  perplexity 85.3  3/6 independent  AABBAC'
    """
    roots = tie_vectors.roots(ties).tolist()
    own = tie_vectors.independent_layers(ties)
    if len(own) <= len(_LETTERS):
        letter = dict(zip(own, _LETTERS, strict=False))
        layers = "".join(letter[root] for root in roots)
    else:
        layers = " ".join(map(str, roots))
    return (
        f"iteration {iteration:>{len(str(max_iters))}}/{max_iters}  perplexity {perplexity:.4g}  "
        f"{len(own)}/{len(ties)} independent  {layers}"
    )


def draw_ties(
    ties: Ties, history: Sequence[tuple[int, float]], max_iters: int
) -> npt.NDArray[np.uint8]:
    """The state of an episode as an image: who uses whose weights, and the perplexity so far.

    Layers stand in a row, coloured by the weights that they use. A square has weights of its own;
    an arc leads from each other layer to the one whose weights it uses.

    Args:
        ties: The tie vector, (L,).
        history: Iteration and validation perplexity after each step so far.
        max_iters: Iterations in the episode: where the perplexity's axis ends.

    Returns:
        Red, green and blue, uint8 (480, 640, 3).
    """
    height, width = SIZE
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    layers, curve = figure.subplots(
        2,
        1,
        height_ratios=(3, 2),
        gridspec_kw={"left": 0.12, "right": 0.96, "top": 0.92, "bottom": 0.11, "hspace": 0.5},
    )
    _draw_layers(layers, ties)
    _draw_curve(curve, history, max_iters)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def _draw_layers(axes: Axes, ties: Ties) -> None:
    roots, n_layer = tie_vectors.roots(ties), len(ties)
    angle = np.linspace(0, np.pi, 40)
    arcs = []
    for layer, root in enumerate(roots):
        middle, reach = (layer + root) / 2, (layer - root) / 2
        if reach:
            height = 0.1 + 0.9 * (layer - root) / max(n_layer - 1, 1)
            arcs.append(np.column_stack((middle - reach * np.cos(angle), height * np.sin(angle))))
    colors = [color(int(root)) for root in roots]
    tied = np.flatnonzero(roots != np.arange(n_layer))
    own = np.flatnonzero(roots == np.arange(n_layer))
    size = min(14.0, 380 / n_layer)  # points across: 48 layers still stand apart
    axes.add_collection(
        LineCollection(arcs, colors=[colors[i] for i in tied], linewidths=1.5, alpha=0.8)
    )
    for chosen, marker, edge in ((tied, "o", "white"), (own, "s", "black")):
        axes.scatter(
            chosen,
            np.zeros(len(chosen)),
            s=(size * (0.75 if marker == "o" else 0.85)) ** 2,
            c=[colors[i] for i in chosen],
            marker=marker,
            edgecolors=edge,
            linewidths=1,
            zorder=3,
            clip_on=False,
        )
    axes.set_xlim(-0.7, n_layer - 0.3)
    axes.set_ylim(-0.12, 1.05)
    axes.set_xticks(range(0, n_layer, 1 if n_layer <= 24 else 4))
    axes.set_yticks([])
    axes.set_xlabel("layer (square: own weights; circle: another layer's)")
    axes.set_title(f"{len(own)} of {n_layer} layers independent", loc="left", fontsize=11)
    tidy(axes)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _draw_curve(axes: Axes, history: Sequence[tuple[int, float]], max_iters: int) -> None:
    iterations = [iteration for iteration, _ in history]
    perplexity = [value for _, value in history]
    title = "validation perplexity: no iteration yet"
    if history:
        axes.plot(iterations, perplexity, color=color(0), linewidth=1.8)
        axes.plot(iterations[-1], perplexity[-1], "o", color=color(0), markersize=5, clip_on=False)
        title = f"validation perplexity {perplexity[-1]:.4g} at iteration {iterations[-1]}"
        perplexity_axis(axes, "y", perplexity)
    else:
        axes.set_yticks([])
    axes.set_xlim(0, max_iters)
    axes.set_xlabel("iteration")
    axes.set_ylabel("perplexity")
    axes.set_title(title, loc="left", fontsize=11)
    tidy(axes)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.8)
