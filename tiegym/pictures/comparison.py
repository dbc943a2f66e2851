"""Pictures of finished runs, drawn from their run folders.

What an environment draws of itself is in `tiegym.pictures.episode_picture`. Statistics that a
claim rests on are none of this module's business: it shows every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tiegym.pictures.style import GREY, PALETTE, color, perplexity_axis, save_png, tidy
from tiegym.pictures.tie_film import FILM_TITLE, show_film

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Seven markers and eight colours make 56 different points."""


Row: TypeAlias = dict[str, Any]
"""One environment step, as a run records it."""


class RecordedRun(Protocol):
    """A finished run, as `tiegym.runs.folder.Run` is one."""

    @property
    def folder(self) -> Path:
        """Where it is."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """What was run."""
        ...

    @property
    def steps(self) -> list[Row]:
        """A row for each environment step."""
        ...

    @property
    def summary(self) -> dict[str, Any] | None:
        """Its `final` holds the figures at the end of the last episode."""
        ...


class PolicyRuns(Protocol):
    """A policy and its finished runs, one for each seed."""

    @property
    def policy(self) -> str:
        """What it is called in the picture."""
        ...

    @property
    def runs(self) -> Sequence[RecordedRun]:
        """At least one, each with a summary."""
        ...


def plot_comparison(rows: Sequence[PolicyRuns], path: str | Path) -> None:
    """Draws a comparison of policies as a PNG file, written atomically.

    Left, the test perplexity of every run and the mean of each policy, first row on top; runs
    that diverged are crosses at the edge, counted in the label and left out of the mean. Right,
    the validation perplexity over iterations: the geometric mean over seeds, in a band from the
    best to the worst seed. With more policies than colours there are no bands, and the names stand
    at the ends of the curves.

    Args:
        rows: The policies in the order of the picture, such as `tiegym.analysis.rows.Row`.
        path: Where to.

    Raises:
        ValueError: If there is no row, or a run without a finished episode.
    """
    if not rows:
        raise ValueError("rows is empty: give at least one policy with its runs")
    for run in (run for row in rows for run in row.runs):
        if run.summary is None or "test_perplexity" not in run.summary["final"]:
            raise ValueError(
                f"{run.folder} has no test perplexity: its episode was cut off. Run it again"
            )
    many = len(rows) > len(PALETTE)
    height = max(3.6, 1.3 + 0.46 * len(rows)) if not many else max(6.0, 1.3 + 0.36 * len(rows))
    width = 11 if not many else 15  # room for the names beside the curves
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    _draw_results(left, rows)
    if many:
        _label_ends(right, _draw_curves(right, rows, bands=False), height)
        right.set_title("While training: mean over seeds", loc="left", fontsize=11)
    else:
        _draw_curves(right, rows, bands=True)
        right.set_title("While training: mean, and range over seeds", loc="left", fontsize=11)
        right.legend(frameon=False, fontsize=9, loc="upper right")
    save_png(figure, path)


def plot_pareto(rows: Sequence[PolicyRuns], path: str | Path) -> None:
    """Draws test perplexity against trainable parameters as a PNG file, written atomically.

    A point is the mean of a policy over seeds, with the range of its runs; runs that diverged are
    left out. The line is the Pareto front: the policies that no other beats with as few
    parameters.

    Args:
        rows: The policies, as for `plot_comparison`.
        path: Where to.

    Raises:
        ValueError: If no run is left to draw.
    """
    figure = Figure(figsize=(9, 5.6), dpi=130, facecolor="white", layout="constrained")
    axes = figure.subplots()
    points: list[tuple[float, float]] = []
    every: list[float] = []
    for place, row in enumerate(rows):
        finals = [final for final in _finals(row) if not final.get("diverged")]
        if not finals:
            continue
        perplexity = [float(final["test_perplexity"]) for final in finals]
        millions = [float(final["trainable_params"]) / 1e6 for final in finals]
        points.append((float(np.mean(millions)), float(np.mean(perplexity))))
        every += perplexity
        style: dict[str, Any] = {"color": color(place), "marker": MARKERS[place % len(MARKERS)]}
        x, y = points[-1]
        axes.plot([x, x], [min(perplexity), max(perplexity)], color=color(place), alpha=0.5)
        axes.plot([min(millions), max(millions)], [y, y], color=color(place), alpha=0.5)
        axes.plot(x, y, **style, markersize=8, linestyle="none", label=row.policy)
    if not points:
        raise ValueError("no run to draw: all of them diverged")
    front = pareto_front(points)
    axes.plot(*np.array(front).T, color=GREY, linewidth=1, linestyle="--", zorder=0)
    perplexity_axis(axes, "y", every)
    axes.set_xlabel("trainable parameters, millions (mean at the end, and range over seeds)")
    axes.set_ylabel("test perplexity (lower is better)")
    axes.set_title("What a parameter buys; dashed: the Pareto front", loc="left", fontsize=11)
    figure.legend(frameon=False, fontsize=8.5, loc="outside right upper")
    tidy(axes)
    axes.grid(color=GREY, alpha=0.2, linewidth=0.8)
    save_png(figure, path)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other has below or beside it on both axes, from left to right.

    Examples:
        >>> pareto_front([(1, 9), (2, 5), (3, 6), (4, 4)])
        [(1, 9), (2, 5), (4, 4)]
    """
    front: list[tuple[float, float]] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    return front


def plot_ties(rows: Sequence[PolicyRuns], path: str | Path) -> None:
    """Draws the tie vector over time as a PNG file, written atomically.

    One panel for each policy, of its first run: a column for each environment step of the last
    finished episode, a cell for each layer, coloured as in `tiegym.pictures.tie_film.tie_film`.

    Args:
        rows: The policies, as for `plot_comparison`.
        path: Where to.

    Raises:
        ValueError: If there is no row.
    """
    if not rows:
        raise ValueError("rows is empty: give at least one policy with its runs")
    columns = 3 if len(rows) > 2 else len(rows)
    lines = -(-len(rows) // columns)
    size = max(5.4, 3.8 * columns), 0.8 + 1.5 * lines
    figure = Figure(figsize=size, dpi=110, facecolor="white", layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, row in zip(grid, rows, strict=False):
        steps = _last_episode(row.runs[0])
        show_film(axes, [step["ties"] for step in steps], steps[-1]["iteration"])
        axes.set_title(row.policy, loc="left", fontsize=9)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        tidy(axes)
    for axes in grid[len(rows) :]:
        axes.set_axis_off()
    figure.supxlabel("iteration", fontsize=9.5)
    figure.supylabel("layer", fontsize=9.5)
    figure.suptitle(FILM_TITLE, x=0.01, ha="left", fontsize=10)
    save_png(figure, path)


def _last_episode(run: RecordedRun) -> list[Row]:
    assert run.summary is not None
    episode = run.summary["final"]["episode"]
    return [row for row in run.steps if row["episode"] == episode]


def _finals(row: PolicyRuns) -> list[dict[str, Any]]:
    return [run.summary["final"] for run in row.runs if run.summary]


def _draw_results(axes: Axes, rows: Sequence[PolicyRuns]) -> None:
    labels: list[str] = []
    shown: list[float] = []
    for place, row in enumerate(rows):
        finals = _finals(row)
        perplexity = np.array([final["test_perplexity"] for final in finals], dtype=np.float64)
        diverged = np.array([bool(final.get("diverged")) for final in finals])
        # Runs with the same perplexity are still counted by eye when they stand apart.
        heights = place + (
            np.linspace(-0.16, 0.16, len(finals)) if len(finals) > 1 else np.zeros(1)
        )
        style: dict[str, Any] = {"color": color(place), "alpha": 0.65, "markersize": 6}
        axes.plot(perplexity[~diverged], heights[~diverged], "o", markeredgewidth=0, **style)
        edge = axes.get_yaxis_transform()  # x as a share of the width, y as it is
        (crosses,) = axes.plot(
            np.ones(diverged.sum()), heights[diverged], "x", transform=edge, clip_on=False, **style
        )
        crosses.set_in_layout(False)
        if not diverged.all():
            mean = perplexity[~diverged].mean()
            axes.plot([mean, mean], [place - 0.3, place + 0.3], color=color(place), linewidth=2.5)
        layers = np.mean([final["n_independent"] for final in finals])
        millions = np.mean([final["trainable_params"] for final in finals]) / 1e6
        label = f"{row.policy}\n{layers:.3g} independent, {millions:.3g} M parameters"
        if diverged.any():
            label += f"\n{diverged.sum()} of {len(finals)} diverged"
        labels.append(label)
        shown += perplexity[~diverged].tolist()
    axes.set_yticks(range(len(rows)), labels)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    if shown:
        perplexity_axis(axes, "x", shown)
    axes.set_xlabel("test perplexity (lower is better)")
    axes.set_title("End of the budget: each run, and the mean", loc="left", fontsize=11)
    tidy(axes)
    axes.grid(axis="x", color=GREY, alpha=0.25, linewidth=0.8)
    axes.tick_params(axis="y", length=0)


def _draw_curves(axes: Axes, rows: Sequence[PolicyRuns], bands: bool) -> list[Line2D]:
    lines: list[Line2D] = []
    late: list[float] = []
    first: list[float] = []
    for place, row in enumerate(rows):
        grid, logs = _curves(row.runs)
        mean, low, high = (np.exp(f(logs, axis=0)) for f in (np.nanmean, np.nanmin, np.nanmax))
        lines += axes.plot(grid, mean, color=color(place), linewidth=1.6, label=row.policy)
        if bands:
            axes.fill_between(grid, low, high, color=color(place), alpha=0.18, linewidth=0)
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


def _label_ends(axes: Axes, lines: Sequence[Line2D], height: float) -> None:
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
        curves.append([(row["iteration"], row["perplexity"]) for row in _last_episode(run)])
    grid = np.unique([iteration for curve in curves for iteration, _ in curve]).astype(np.float64)
    logs = []
    for curve in curves:
        iterations, perplexity = np.array(curve, dtype=np.float64).T
        logs.append(np.interp(grid, iterations, np.log(perplexity), left=np.nan, right=np.nan))
    return grid, np.array(logs)
