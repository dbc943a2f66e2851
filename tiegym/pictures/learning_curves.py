"""The curves of a comparison: perplexity over iterations, and the names at their ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tiegym.pictures.colors import GREY
from tiegym.pictures.drawn_runs import PolicyRuns, RecordedRun, last_episode
from tiegym.pictures.kinds import Look
from tiegym.pictures.style import in_lines, perplexity_axis, plain, tidy


def draw_curves(
    axes: Axes, rows: Sequence[PolicyRuns], shown_as: Sequence[Look], bands: bool
) -> list[Line2D]:
    """Draws validation perplexity over iterations, a curve for each policy.

    Args:
        axes: Of any figure.
        rows: The policies.
        shown_as: Their colours.
        bands: Whether to draw the range over seeds around the mean; long names take several lines
            then, since they are few and stand in a legend.
    """
    lines: list[Line2D] = []
    late: list[float] = []
    first: list[float] = []
    for row, look in zip(rows, shown_as, strict=True):
        grid, logs = _curves(row.runs)
        mean, low, high = (np.exp(f(logs, axis=0)) for f in (np.nanmean, np.nanmin, np.nanmax))
        label = in_lines(row.policy) if bands else plain(row.policy)
        lines += axes.plot(grid, mean, color=look.color, linewidth=1.6, label=label)
        if bands:
            axes.fill_between(grid, low, high, color=look.color, alpha=0.18, linewidth=0)
        first.append(float(mean[0]))
        late += [float(p) for x, p in zip(grid, mean, strict=True) if x >= 0.25 * grid[-1]]
        late.append(float(low.min() if bands else mean.min()))
    # The first quarter falls steeply for every policy: left out of the scale, it leaves room for
    # where they differ. A diverged run is left out too.
    top = min(max(late), max(first))
    perplexity_axis(axes, "y", [min(late), top])
    axes.set_ylim(min(late) / 1.03, top * 1.1)
    axes.set_xlim(left=0)
    axes.set_xlabel("iteration")
    axes.set_ylabel("validation perplexity")
    tidy(axes)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.8)
    return lines


def label_ends(axes: Axes, lines: Sequence[Line2D], height: float) -> None:
    """Writes the name of each curve beside axes of so many inches, and leads to the curve's end."""
    ends = [(np.asarray(line.get_xdata())[-1], np.asarray(line.get_ydata())[-1]) for line in lines]
    axes.set_xlim(right=max(x for x, _ in ends))
    order = sorted(range(len(lines)), key=lambda k: ends[k][1])
    # A line of text apart, as near to the ends as there is room for; in shares of the height.
    middle = axes.transAxes.inverted().transform(axes.transData.transform(ends))[:, 1].mean()
    spread = min(0.98, 0.2 * len(lines) / height)
    bottom = np.clip(middle - spread / 2, 0.01, 0.99 - spread)
    for place, k in zip(np.linspace(bottom, bottom + spread, len(lines)), order, strict=True):
        axes.annotate(
            str(lines[k].get_label()),
            xy=ends[k],
            xytext=(1.1, place),
            textcoords="axes fraction",
            arrowprops={
                "arrowstyle": "-",
                "color": lines[k].get_color(),
                "relpos": (0, 0.5),
                "shrinkB": 0,
            },
            annotation_clip=False,
            va="center",
            fontsize=9,
        )


def _curves(runs: Sequence[RecordedRun]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Log-perplexity of the last finished episode of each run on the iterations of all of them.

    Returns:
        Iterations (N,), and log-perplexities (runs, N) that are NaN where a run has none.
    """
    curves = []
    for run in runs:
        curves.append([(row["iteration"], row["perplexity"]) for row in last_episode(run)])
    grid = np.unique([iteration for curve in curves for iteration, _ in curve]).astype(np.float64)
    logs = []
    for curve in curves:
        iterations, perplexity = np.array(curve, dtype=np.float64).T
        logs.append(np.interp(grid, iterations, np.log(perplexity), left=np.nan, right=np.nan))
    return grid, np.array(logs)
