"""The plots of a report, as numbers in the coordinates of an SVG: markup is the template's.

A plot is 560 units wide and 300 high, with margins for what the template writes on its axes.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.image import imsave
from matplotlib.ticker import MaxNLocator

from tiegym.analysis.groups import Group, final, last_episode, seed, state
from tiegym.parts import depth, forest
from tiegym.pictures.tie_film import sampled, tie_film
from tiegym.runs.folder import Run

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 548, 12, 258
"""Where the axes are."""

_MOST_POINTS = 400  # of a curve


@dataclass(frozen=True)
class Axis:
    """A scale from values to coordinates, and its ticks."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        low, high, at = (self._scaled(v) for v in (self.low, self.high, value))
        return round(self.start + (at - low) / (high - low) * (self.end - self.start), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Coordinates and labels."""
        if self.log:
            shown = [m * 10.0**e for e in range(-3, 12) for m in (1, 1.5, 2, 3, 5, 7)]
        else:
            shown = list(
                MaxNLocator(nbins=6, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high)
            )
        inside = [v for v in shown if self.low <= v <= self.high]
        inside = inside[:: math.ceil(len(inside) / 8) or 1]
        return [(self(v), f"{v:,.6g}") for v in inside]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


def curves(
    groups: Sequence[Group], key: str, title: str, log: bool, cut: bool
) -> dict[str, Any] | None:
    """A plot of a column of the steps over iterations: a line for each run.

    Args:
        groups: The policies.
        key: The column.
        title: Of the plot.
        log: Whether the axis is logarithmic where the values spread.
        cut: Whether the first tenth is left out of the scale: it falls steeply for every
            policy. A run that is shorter than that has its own last points in it.

    Returns:
        None if no run has a step.
    """
    lines: list[dict[str, Any]] = []
    for place, group in enumerate(groups):
        for run in group.runs:
            steps = last_episode(run)
            steps = [steps[k] for k in sampled(len(steps), _MOST_POINTS)] if steps else []
            points = [(row["iteration"], row[key]) for row in steps if row.get(key) is not None]
            if points:
                lines.append(
                    {
                        "group": place,
                        "name": f"{group.label}, seed {seed(run)}",
                        "points": points,
                        "unfinished": state(run) == "cut off",
                    }
                )
    if not lines:
        return None
    end = max(line["points"][-1][0] for line in lines)
    late = [
        y
        for line in lines
        for x, y in line["points"]
        if not cut or x >= 0.1 * end or x >= 0.9 * line["points"][-1][0]
    ]
    low, high = min(late), max(late)
    log = log and low > 0 and high > 4 * low
    margin = 0.04 * (high - low) or max(0.5, 0.04 * abs(high))  # what adds to a large one, too
    y = Axis(
        *((low / 1.03, high * 1.05) if log else (low - margin, high + margin)), BOTTOM, TOP, log
    )
    x = Axis(0, end or 1, LEFT, RIGHT)
    for line in lines:
        line["path"] = "M" + "L".join(f"{x(a)},{y(b)}" for a, b in line["points"])
        if len(line["points"]) == 1:
            line["path"] += "h0"  # a line of no length, which round ends make a dot
    return {"title": title, "x": x, "y": y, "x_label": "iteration", "lines": lines, "dots": []}


def trade_off(groups: Sequence[Group]) -> dict[str, Any] | None:
    """A plot of test perplexity over trainable parameters: a dot for each finished run.

    Returns:
        None if no run has ended with a test perplexity; those that diverged are left out.
    """
    dots: list[dict[str, Any]] = []
    for place, group in enumerate(groups):
        for run in group.runs:
            figures = final(run)
            needed = [figures.get(key) for key in ("test_perplexity", "trainable_params")]
            if state(run) == "finished" and None not in needed:
                dots.append(
                    {
                        "group": place,
                        "x": figures["trainable_params"] / 1e6,
                        "y": figures["test_perplexity"],
                        "name": f"{group.label}, seed {seed(run)}: test perplexity "
                        f"{figures['test_perplexity']:.4g}, {figures['trainable_params']:,} "
                        f"parameters, {figures.get('n_independent')} independent layers",
                    }
                )
    if not dots:
        return None
    y = _padded([dot["y"] for dot in dots], BOTTOM, TOP)
    x = _padded([dot["x"] for dot in dots], LEFT, RIGHT)
    for dot in dots:
        dot["x"], dot["y"] = x(dot["x"]), y(dot["y"])
    return {
        "title": "test perplexity and what it costs",
        "x": x,
        "y": y,
        "x_label": "trainable parameters, millions",
        "lines": [],
        "dots": dots,
    }


def _padded(values: Sequence[float], start: float, end: float) -> Axis:
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    return Axis(low - margin, high + margin, start, end)


def film(run: Run, most: int = _MOST_POINTS) -> dict[str, Any] | None:
    """A run's ties over time: an image as a data address, and what it shows; None without steps.

    Returns:
        `image`, `ties` (T, P L) with units for targets (see `tiegym.parts.forest`), `iterations`
        (T,), `layers` and `units`.
    """
    steps = [row for row in last_episode(run) if row.get("ties")]
    if not steps:
        return None
    steps = [row for row in steps if len(row["ties"]) == len(steps[-1]["ties"])]
    steps = [steps[k] for k in sampled(len(steps), most)]
    ties = [row["ties"] for row in steps]
    buffer = BytesIO()
    n_units, n_layer = len(ties[0]), run.config["env"].get("n_layer")
    n_layer = depth(n_units, n_layer if isinstance(n_layer, int) else None)
    imsave(buffer, tie_film(ties, n_layer), format="png")
    return {
        "image": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(),
        "ties": [forest(np.array(vector), n_layer).tolist() for vector in ties],
        "iterations": [row["iteration"] for row in steps],
        "layers": n_layer,
        "units": n_units,
    }
