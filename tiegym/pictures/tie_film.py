"""Heat maps of layers: which weights each used over time, and how alike their weights are.

Layer 0 is at the bottom, as in `tiegym.pictures.episode_picture`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tiegym import parts
from tiegym.pictures.colors import color
from tiegym.pictures.style import figure_pixels, tidy

FILM_TITLE = "Whose weights each layer uses (bar: its own; thin line: those of the line's colour)"

CELL = 6
"""Pixels of `tie_film` from the bottom of a layer to that of the next."""

_BAR, _LINE = slice(0, 5), slice(2, 4)  # the rows of a cell that its colour fills
_MOST_COLUMNS = 600  # more than a picture has room for
_MOST_HEIGHT = 60.0  # inches
_NUMBERS_FIT = 12  # layers


def tie_film(
    ties: Sequence[Sequence[int]] | npt.NDArray[np.integer], n_layer: int | None = None
) -> npt.NDArray[np.uint8]:
    """Tie vectors over time as pixels, coloured by the weights that each layer uses.

    A layer with weights of its own is a bar; one that uses another's is a thin line in that
    layer's colour, so that the two are told apart without colours, too. The rest is transparent:
    the background may be light or dark.

    Args:
        ties: One tie vector for each moment, (T, L), or those of both parts, (T, 2L).
        n_layer: Layers L; None is one for each entry.

    Returns:
        Red, green, blue and opacity, uint8 (L * `CELL`, T, 4), the last layer first; of two parts
        (2L * `CELL`, T, 4), the MLPs above the attention.
    """
    vectors = np.asarray(ties, dtype=np.int64)
    n_units = vectors.shape[1]
    n_layer = parts.depth(n_units, n_layer)
    palette = np.array([to_rgb(color(unit % n_layer)) for unit in range(n_units)])
    roots = np.array([parts.roots(vector, n_layer) for vector in vectors]).T[::-1]  # (L, T)
    own = roots == np.arange(n_units)[::-1, None]
    pixels = np.zeros((n_units, CELL, len(vectors), 4))
    pixels[..., :3] = palette[roots][:, None]
    pixels[:, _LINE, :, 3] = 1
    pixels[:, _BAR, :, 3] = np.where(own[:, None], 1, pixels[:, _BAR, :, 3])
    return (255 * pixels).round().astype(np.uint8).reshape(n_units * CELL, -1, 4)


def sampled(count: int, most: int = _MOST_COLUMNS) -> npt.NDArray[np.int64]:
    """Evenly spaced indices of `count` things, the first and the last included, at most `most`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def show_film(
    axes: Axes, ties: Sequence[Sequence[int]], iterations: int, n_layer: int | None = None
) -> None:
    """Fills axes with `tie_film`: iterations from left to right, layers from the bottom up.

    Args:
        axes: Of any figure.
        ties: The ties of each environment step, as of `tie_film`.
        iterations: In all of them.
        n_layer: As of `tie_film`.
    """
    axes.imshow(
        tie_film([ties[k] for k in sampled(len(ties))], n_layer),
        extent=(0, iterations, -0.5, len(ties[0]) - 0.5),
        origin="upper",
        aspect="auto",
        interpolation="nearest",
    )


def draw_film(
    ties: Sequence[Sequence[int]], iterations: Sequence[int], n_layer: int | None = None
) -> npt.NDArray[np.uint8]:
    """`tie_film` with its axes, as red, green and blue, uint8 (H, W, 3).

    Args:
        ties: The ties of each environment step, as of `tie_film`.
        iterations: Iterations after each of them, (T,).
        n_layer: As of `tie_film`.
    """
    height = min(1.7 + 0.1 * len(ties[0]), _MOST_HEIGHT)
    figure = Figure(figsize=(9, height), dpi=100, facecolor="white")
    margins = {"left": 0.07, "right": 0.97, "bottom": 0.55 / height, "top": 1 - 0.3 / height}
    axes = figure.subplots(gridspec_kw=margins)
    show_film(axes, ties, iterations[-1], n_layer)
    layer_axis(axes, len(ties[0]), n_layer)
    axes.set_xlabel("iteration")
    axes.set_title(FILM_TITLE, loc="left", y=1.0, fontsize=10)
    tidy(axes)
    return figure_pixels(figure)


def draw_similarity(similarity: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """Similarity of layers (`tiegym.transformer.layer_stats.layer_similarity`) as a heat map.

    Args:
        similarity: Cosine similarity of each two layers, (L, L), or of both parts, (2, L, L).

    Returns:
        Red, green and blue, uint8 (H, W, 3).
    """
    n_layer = similarity.shape[-1]
    panels = similarity.reshape(-1, n_layer, n_layer)
    size = (6 * len(panels), 5.2)
    figure = Figure(figsize=size, dpi=100, facecolor="white")
    # Fixed, for a layout that is worked out takes longer than all the rest, at each episode's end.
    margins = {"left": 0.55 / size[0], "right": 1, "bottom": 0.1, "top": 0.94, "wspace": 0.1}
    all_axes = figure.subplots(1, len(panels), squeeze=False, gridspec_kw=margins)
    whose = ("layers'",) if len(panels) == 1 else ("attention's", "MLPs'")
    for panel, name, axes in zip(panels, whose, all_axes[0], strict=True):
        _similarity_panel(figure, axes, panel)
        axes.set_title(f"Cosine similarity of the {name} weights", loc="left", y=1.0, fontsize=11)
        tidy(axes)
    return figure_pixels(figure)


def _similarity_panel(figure: Figure, axes: Axes, similarity: npt.NDArray[np.floating]) -> None:
    n_layer = len(similarity)
    image = axes.imshow(similarity, origin="lower", cmap="cividis", vmin=0, vmax=1)
    bar = figure.colorbar(image, ax=axes, extend="min")
    bar.ax.tick_params(labelsize=9)
    if n_layer <= _NUMBERS_FIT:
        for i, j in np.ndindex(n_layer, n_layer):
            shade = "black" if similarity[i, j] > 0.5 else "white"
            value = f"{similarity[i, j]:.2f}"
            axes.text(j, i, value, ha="center", va="center", color=shade, fontsize=8)
    layer_axis(axes, n_layer)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    axes.set_xlabel("layer")


def layer_axis(axes: Axes, n_units: int, n_layer: int | None = None, ticks: int = 12) -> None:
    """Numbers layers from the bottom up; of two parts each, the MLPs above the attention.

    Args:
        axes: Such as `show_film` filled them.
        n_units: Entries of the ties.
        n_layer: As of `tie_film`.
        ticks: At most so many.
    """
    few = min(n_units, ticks)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=few, integer=True, min_n_ticks=1))
    axes.set_ylabel("layer")
    depth = parts.depth(n_units, n_layer)
    if depth < n_units:
        step = -(-n_units // ticks)
        axes.set_yticks(
            range(0, n_units, step), [str(unit % depth) for unit in range(0, n_units, step)]
        )
        axes.axhline(depth - 0.5, color="black", linewidth=0.6)
        axes.set_ylabel("attention, MLP")
