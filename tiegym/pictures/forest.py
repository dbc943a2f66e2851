"""Estimates with their intervals, one below the other: a forest plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from tiegym.pictures.colors import GREY, PALETTE
from tiegym.pictures.style import in_lines, plain, save_png, tidy


class Estimate(NamedTuple):
    """A figure and its interval."""

    name: str
    value: float
    low: float
    high: float
    starred: bool = False
    """Drawn full instead of hollow."""


def plot_forest(
    panels: Mapping[str, Sequence[Estimate]],
    what: str,
    path: str | Path,
    beside_first: bool = True,
) -> None:
    """Draws estimates with their intervals as a PNG file, written atomically.

    Args:
        panels: By their titles, side by side; each has the same names in the same order.
        what: The quantity and its unit, below each panel.
        path: Where to.
        beside_first: Whether the first estimate of a panel is what the others are seen against,
            and has a line of its own.

    Raises:
        ValueError: If there is no panel, or one without estimates or with other names.
    """
    names = [[e.name for e in estimates] for estimates in panels.values()]
    if not names or not names[0] or any(other != names[0] for other in names):
        raise ValueError(f"panels={dict(panels)} must be some, all with the same names, not none")
    size = 1.6 + 4.2 * len(panels), 1.2 + 0.32 * len(names[0])
    figure = Figure(figsize=size, dpi=110, facecolor="white", layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (title, estimates) in zip(grid, panels.items(), strict=True):
        axes.axvline(0, color=GREY, linewidth=1)
        if beside_first:
            axes.axvline(estimates[0].value, color=GREY, linewidth=1, linestyle="--")
        for place, estimate in enumerate(estimates):
            axes.hlines(place, estimate.low, estimate.high, color=PALETTE[0], linewidth=1.8)
            face = PALETTE[0] if estimate.starred else "white"
            axes.plot(estimate.value, place, "o", color=PALETTE[0], markerfacecolor=face)
        axes.set_title(plain(title), loc="left", fontsize=11)
        axes.set_xlabel(plain(what))
        axes.locator_params(axis="x", nbins=5)
        tidy(axes)
        axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.8)
        axes.tick_params(axis="y", length=0)
    grid[0].set_yticks(range(len(names[0])), [in_lines(name) for name in names[0]])
    grid[0].set_ylim(len(names[0]) - 0.5, -0.5)
    save_png(figure, path)
