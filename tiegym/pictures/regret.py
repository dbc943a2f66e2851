"""Regret over the decisions that agents have learnt from, beside what doesn't learn."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from tiegym.pictures.colors import GREY, ON_DARK, PALETTE
from tiegym.pictures.comparison import MARKERS
from tiegym.pictures.learning_curves import label_ends
from tiegym.pictures.style import Theme, plain, recolor, save_png, tidy

Bounds = tuple[float, float, float]
"""A mean, and the bounds of its interval."""

_SIZE, _DPI = (9.0, 5.2), 110  # inches, and pixels for each
_DASHES = ((0, (6, 3)), (0, (1, 2)), (0, (6, 2, 1, 2)), (0, (3, 2)), "solid")
_APART = 0.025  # decades between agents after as many decisions


@dataclass(frozen=True)
class Curve:
    """An agent's regret.

    Attributes:
        policy: Its name.
        decisions: That it has learnt from; rising.
        regret: At each of them, in nats.
    """

    policy: str
    decisions: Sequence[int]
    regret: Sequence[Bounds]


def plot_regret(
    curves: Sequence[Curve],
    levels: Mapping[str, float],
    path: str | Path,
    theme: Theme = "light",
    title: str = "",
) -> None:
    """Draws the regret of agents over decisions as a PNG file, written atomically.

    Both axes are logarithmic, but that of regret is linear if a mean is 0 or below: fixed sharings
    are no sequences of decisions, and may be better than the best one. Bars are intervals;
    agents stand a little beside each other, so that none hides another's.

    Args:
        curves: A line for each.
        levels: The regret of what doesn't learn, in nats: a level line for each.
        path: Where to.
        theme: For pages with a light or a dark ground.
        title: Above the picture.

    Raises:
        ValueError: If there is no curve.
    """
    if not curves:
        raise ValueError("curves is empty: give at least one agent")
    figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    bottom = _scale(axes, curves, list(levels.values()))
    palette = PALETTE if theme == "light" else ON_DARK
    lines = []
    for k, curve in enumerate(curves):
        x = np.array(curve.decisions) * 10 ** (_APART * (k - (len(curves) - 1) / 2))
        mean, low, high = np.array(curve.regret).T
        style: dict[str, Any] = {"color": palette[k % len(palette)], "clip_on": False}
        marker = MARKERS[k // len(palette) % len(MARKERS)]
        lines += axes.plot(x, mean, marker=marker, linewidth=1.8, markersize=5, **style)
        lines[-1].set_label(plain(curve.policy))
        axes.vlines(x, low.clip(bottom), high, linewidth=1.2, alpha=0.8, **style)
    ends = np.concatenate([line.get_xdata() for line in lines])
    for (name, level), dashes in zip(levels.items(), itertools.cycle(_DASHES)):
        style = {"color": palette[-1], "linestyle": dashes, "linewidth": 1.3, "zorder": 1}
        lines += axes.plot([ends.min(), ends.max()], [level, level], **style)
        lines[-1].set_label(plain(name))
    axes.set_xlabel("decisions that the agent has learnt from")
    axes.set_ylabel("regret in nats (lower is better)")
    axes.set_title(plain(title), loc="left", fontsize=11)
    tidy(axes)
    axes.grid(axis="y", color=GREY, alpha=0.25, linewidth=0.8)
    label_ends(axes, lines, _SIZE[1])
    recolor(figure, theme)
    save_png(figure, path)


def _scale(axes: Axes, curves: Sequence[Curve], levels: Sequence[float]) -> float:
    """Scales both axes; returns the least regret that is shown.

    The means decide: an interval may reach further down, and is cut off there.
    """
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(sorted({n for c in curves for n in c.decisions})))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    means = [*levels, *(bounds[0] for curve in curves for bounds in curve.regret)]
    lowest, highest = min(means), max(*means, *(b[2] for curve in curves for b in curve.regret))
    if lowest > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
        bottom = lowest / 1.5
    else:
        bottom = lowest - 0.1 * (highest - lowest)
    axes.set_ylim(bottom, max(highest * 1.15, bottom + 1e-3))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    return bottom
