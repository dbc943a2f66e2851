"""Perplexity against average depth: what it costs to run fewer layers of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tiegym.pictures.colors import GREY, ON_DARK, PALETTE
from tiegym.pictures.comparison import MARKERS
from tiegym.pictures.style import Theme, perplexity_axis, plain, recolor, save_png, tidy

_SIZE, _DPI = (6.4, 4.4), 110  # inches, and pixels for each

Points = Sequence[tuple[float, float]]
"""Average depth in layers, and perplexity."""


def plot_depth_curve(
    curves: Mapping[str, Points], path: str | Path, theme: Theme = "light", title: str = ""
) -> None:
    """Draws perplexity against average depth as a PNG file, written atomically.

    Args:
        curves: A line for each, by its name.
        path: Where to.
        theme: For pages with a light or a dark ground.
        title: Above the picture.

    Raises:
        ValueError: If there is no curve, or one without points.
    """
    if not curves or not all(curves.values()):
        raise ValueError(f"curves={dict(curves)!r:.80} must be at least one, each with points")
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    palette = PALETTE if theme == "light" else ON_DARK
    for k, (name, points) in enumerate(curves.items()):
        depth, perplexity = zip(*sorted(points), strict=True)
        marker, color = MARKERS[k % len(MARKERS)], palette[k % len(palette)]
        axes.plot(depth, perplexity, marker=marker, color=color, markersize=5, label=plain(name))
    perplexity_axis(axes, "y", [value for points in curves.values() for _, value in points])
    axes.set_xlim(left=0)
    axes.set_xlabel("layers that a token runs through, on average")
    axes.set_ylabel("test perplexity")
    axes.set_title(plain(title), loc="left", fontsize=11)
    tidy(axes)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.8)
    axes.legend(frameon=False, fontsize=9)
    recolor(figure, theme)
    save_png(figure, path)
