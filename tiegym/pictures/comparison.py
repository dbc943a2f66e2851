"""Pictures of finished runs, drawn from their run folders.

What an environment draws of itself is in `tiegym.pictures.episode_picture`. Statistics that a
claim rests on are none of this module's business: it shows every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tiegym.pictures.colors import GREY, PALETTE
from tiegym.pictures.drawn_runs import PolicyRuns, finals_of, last_episode
from tiegym.pictures.kinds import KINDS, Look, looks
from tiegym.pictures.learning_curves import draw_curves, label_ends
from tiegym.pictures.style import in_lines, perplexity_axis, save_png, tidy
from tiegym.pictures.tie_film import CELL, FILM_TITLE, layer_axis, show_film

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*", "d")
"""With eight colours, 104 different points."""

_DPI = 110


def plot_comparison(rows: Sequence[PolicyRuns], path: str | Path) -> None:
    """Draws a comparison of policies as a PNG file, written atomically.

    Left, the test perplexity of every run and the mean of each policy, first row on top; runs
    that diverged are crosses at the edge, counted in the label and left out of the mean. Right,
    the validation perplexity over iterations: the geometric mean over seeds, in a band from the
    best to the worst seed. With more policies than colours they are coloured by kind, there are no
    bands, and the names stand at the ends of the curves.

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
    lines = 1 + max(in_lines(row.policy).count("\n") + 1 for row in rows)  # of the longest label
    of_row = max(0.36 if many else 0.46, 0.16 * lines)
    height = max(6.0 if many else 3.6, 1.3 + of_row * len(rows))
    width = 11 if not many else 15  # room for the names beside the curves
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    shown = looks([row.runs[0].config for row in rows])
    _draw_results(left, rows, shown)
    if many:
        label_ends(right, draw_curves(right, rows, shown, bands=False), height)
        _label_kinds(right, shown)
        right.set_title("While training: mean over seeds", loc="left", fontsize=11)
    else:
        draw_curves(right, rows, shown, bands=True)
        right.set_title("While training: mean, and range over seeds", loc="left", fontsize=11)
        right.legend(frameon=False, fontsize=9, loc="upper right")
    save_png(figure, path)


SIZES = {
    "trainable_params": ("What a parameter buys", "trainable parameters, millions"),
    "stored_bytes": ("What a byte on disk buys", "bytes of the trained model on disk, millions"),
}
"""What policies may be compared by: titles and labels of `plot_pareto`."""


def plot_pareto(
    rows: Sequence[PolicyRuns], path: str | Path, size: str = "trainable_params"
) -> None:
    """Draws test perplexity against a size as a PNG file, written atomically.

    A point is the mean of a policy over seeds, with the range of its runs; runs that diverged are
    left out. The line is the Pareto front, the policies that no other beats at as little;
    these are named in the picture, too. Many policies are coloured by kind.

    Args:
        rows: The policies, as for `plot_comparison`.
        path: Where to.
        size: One of `SIZES`; all runs have it.

    Raises:
        ValueError: If no run is left to draw.
    """
    shown_as = looks([row.runs[0].config for row in rows])
    height = max(5.6, 0.5 + 0.17 * (len(rows) + len(KINDS)))  # inches: room for the legend
    figure = Figure(figsize=(9, height), dpi=130, facecolor="white", layout="constrained")
    axes = figure.subplots()
    points: dict[str, tuple[float, float]] = {}
    every: list[float] = []
    handles: list[tuple[Line2D, Look]] = []
    for row, look in sorted(zip(rows, shown_as, strict=True), key=_place):
        finals = [final for final in finals_of(row) if not final.get("diverged")]
        if not finals:
            continue
        perplexity = [float(final["test_perplexity"]) for final in finals]
        millions = [float(final[size]) / 1e6 for final in finals]
        # Of whole numbers, so that policies of one size have the same x to the last bit.
        x = float(np.mean([final[size] for final in finals])) / 1e6
        y = float(np.mean(perplexity))
        points[row.policy] = x, y
        every += perplexity
        style: dict[str, Any] = {"color": look.color, "marker": MARKERS[look.number % len(MARKERS)]}
        axes.plot([x, x], [min(perplexity), max(perplexity)], color=look.color, alpha=0.5)
        axes.plot([min(millions), max(millions)], [y, y], color=look.color, alpha=0.5)
        (marker,) = axes.plot(x, y, **style, markersize=8, linestyle="none", zorder=3)
        marker.set_label(in_lines(row.policy))
        handles.append((marker, look))
    if not points:
        raise ValueError("no run to draw: all of them diverged")
    front = pareto_front(list(points.values()))
    axes.plot(*np.array(front).T, color=GREY, linewidth=1, linestyle="--", zorder=0)
    perplexity_axis(axes, "y", every)
    _name_front(axes, {name: point for name, point in points.items() if point in front})
    title, label = SIZES[size]
    axes.set_xlabel(f"{label} (mean at the end, and range over seeds)")
    axes.set_ylabel("test perplexity (lower is better)")
    axes.set_title(f"{title}; dashed: the Pareto front", loc="left", fontsize=11)
    _legend_by_kind(figure, handles)
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
    deepest = max(len(last_episode(row.runs[0])[-1]["ties"]) for row in rows)
    panel = max(1.5, 0.6 + CELL * deepest / _DPI)  # inches: a pixel for each of tie_film's, if many
    size = max(5.4, 3.8 * columns), 0.8 + panel * lines
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False).flatten()
    for axes, row in zip(grid, rows, strict=False):
        steps = last_episode(row.runs[0])
        ties = [step["ties"] for step in steps]
        n_layer = row.runs[0].config.get("env", {}).get("n_layer")
        show_film(axes, ties, steps[-1]["iteration"], n_layer)
        layer_axis(axes, len(ties[-1]), n_layer, ticks=4)
        axes.set_ylabel("")
        axes.set_title(in_lines(row.policy), loc="left", fontsize=9)
        tidy(axes)
    for axes in grid[len(rows) :]:
        axes.set_axis_off()
    figure.supxlabel("iteration", fontsize=9.5)
    figure.supylabel("layer", fontsize=9.5)
    figure.suptitle(FILM_TITLE, x=0.01, ha="left", fontsize=10)
    save_png(figure, path)


def _place(drawn: tuple[PolicyRuns, Look]) -> int:
    """The order of the legend: by kind where colours are those of kinds, else as given."""
    return drawn[1].place


def _name_front(axes: Axes, front: Mapping[str, tuple[float, float]]) -> None:
    for name, point in front.items():
        axes.annotate(
            in_lines(name),
            point,
            xytext=(7, 7),
            textcoords="offset points",
            fontsize=8,
            zorder=1.5,  # under the markers
            bbox={"boxstyle": "square,pad=0.1", "color": "white", "alpha": 0.8},
        )


def _legend_by_kind(figure: Figure, handles: Sequence[tuple[Line2D, Look]]) -> None:
    """All markers beside the axes, under the names of their kinds where colours are those."""
    lines: list[Line2D] = []
    headings: list[Line2D] = []  # by their lines: a policy may have the name of a kind
    kind = None
    for marker, look in handles:
        if look.kind != kind:
            kind = look.kind
            headings.append(Line2D([], [], linestyle="none", label=kind))
            lines.append(headings[-1])
        lines.append(marker)
    legend = figure.legend(handles=lines, frameon=False, fontsize=8, loc="outside right upper")
    for line, text in zip(lines, legend.get_texts(), strict=True):
        if line in headings:
            text.set_fontweight("bold")


def _label_kinds(axes: Axes, shown: Sequence[Look]) -> None:
    """Adds a legend of the kinds that are drawn, each in its colour."""
    present = sorted({look.kind for look in shown if look.kind}, key=KINDS.index)
    lines = [Line2D([], [], color=PALETTE[KINDS.index(kind)], linewidth=3) for kind in present]
    axes.legend(lines, present, frameon=False, fontsize=8.5, loc="upper right")


def _draw_results(axes: Axes, rows: Sequence[PolicyRuns], shown_as: Sequence[Look]) -> None:
    labels: list[str] = []
    shown: list[float] = []
    for place, (row, look) in enumerate(zip(rows, shown_as, strict=True)):
        finals = finals_of(row)
        perplexity = np.array([final["test_perplexity"] for final in finals], dtype=np.float64)
        diverged = np.array([bool(final.get("diverged")) for final in finals])
        # Runs with the same perplexity are still counted by eye when they stand apart.
        heights = place + (
            np.linspace(-0.16, 0.16, len(finals)) if len(finals) > 1 else np.zeros(1)
        )
        style: dict[str, Any] = {"color": look.color, "alpha": 0.65, "markersize": 6}
        axes.plot(perplexity[~diverged], heights[~diverged], "o", markeredgewidth=0, **style)
        edge = axes.get_yaxis_transform()  # x as a share of the width, y as it is
        (crosses,) = axes.plot(
            np.ones(diverged.sum()), heights[diverged], "x", transform=edge, clip_on=False, **style
        )
        crosses.set_in_layout(False)
        if not diverged.all():
            mean = perplexity[~diverged].mean()
            axes.plot([mean, mean], [place - 0.3, place + 0.3], color=look.color, linewidth=2.5)
        layers = np.mean([final["n_independent"] for final in finals])
        millions = np.mean([final["trainable_params"] for final in finals]) / 1e6
        label = f"{in_lines(row.policy)}\n{layers:.3g} independent, {millions:.3g} M parameters"
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
