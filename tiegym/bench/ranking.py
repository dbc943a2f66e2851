"""Which fixed sharings are best in a table, and whether the ranking survives other circumstances.

    python -m tiegym.bench.ranking tree-4x2-stdlib-sum
    python -m tiegym.bench.ranking tree-4x2-stdlib-sum --other runs/tables/patterns-4-mine-sum.npz

The best of each size with its distance to the mean of that size, what is choice and what is seed,
and Spearman's rank correlation with an earlier iteration, with other seeds and with another table.
Seeds are all recorded ones; the figures are losses in nats.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tyro
from scipy.stats import spearmanr

from tiegym.analysis.intervals import paired_difference
from tiegym.analysis.markdown import markdown_table, markdown_text
from tiegym.bench.spread import spread
from tiegym.bench.table import Floats, Judge, Table, load_table
from tiegym.bench.tree import sharings
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import input_errors
from tiegym.runs.messages import say


@dataclass(frozen=True)
class Options:
    """Rank the fixed sharings of a table."""

    table: tyro.conf.Positional[str]
    """A shipped table's name, or the path of an .npz file; a tree has fixed sharings, too."""
    other: tuple[str, ...] = ()
    """Tables of as many layers: does the ranking survive there?"""
    loss: Judge = "val"
    """Which loss."""


def final_losses(table: Table, loss: Judge = "val", point: int = -1) -> Floats:
    """The loss of each fixed sharing at a point of the curves (the last), (R, Bell(L))."""
    losses: Floats = table.arrays[f"fixed_{loss}"][:, :, point].astype(np.float64)
    return losses


def sizes(n_layer: int) -> np.ndarray:
    """Independent layers of each sharing, (Bell(L),)."""
    count: np.ndarray = (sharings(n_layer) == np.arange(n_layer)).sum(axis=1)
    return count


def by_size(table: Table, loss: Judge = "val") -> list[list[str]]:
    """Rows of a markdown table: for each size how many, the mean, the best, its distance to it.

    The interval is Student's over seeds, with Bonferroni's correction on the side that choosing
    the best of so many makes look good.
    """
    n, losses = table.n_layer, final_losses(table, loss)
    vectors, count = sharings(n), sizes(n)
    rows = []
    for size in range(1, n + 1):
        of_size = np.flatnonzero(count == size)
        best = of_size[losses[:, of_size].mean(axis=0).argmin()]
        mean = losses[:, of_size].mean(axis=1)
        name = ",".join(map(str, vectors[best].tolist()))
        cells = [str(size), str(len(of_size)), f"{mean.mean():.4f}", f"`{name}`"]
        cells.append(f"{losses[:, best].mean():.4f}")
        if len(of_size) > 1:
            d = paired_difference(mean, losses[:, best], choices=len(of_size))
            bounds = "" if d.low is None else f" [{d.low:+.4f}, {d.high:+.4f}]"
            cells.append(f"{d.value:+.4f}{bounds}")
        else:
            cells.append("")
        rows.append(cells)
    return rows


def agreement(ours: Floats, theirs: Floats, n_layer: int) -> tuple[float, float]:
    """Spearman's rank correlation of sharings by their means over seeds: all, and within sizes.

    Args:
        ours: Losses (R, Bell(L)).
        theirs: The same of other circumstances; the number of seeds may differ.
        n_layer: Layers L.

    Returns:
        Over all sharings; and the mean over the sizes that have at least 10, weighted by their
        number, for which the number of parameters can't be the reason. NaN if there is none.
    """
    a, b, count = ours.mean(axis=0), theirs.mean(axis=0), sizes(n_layer)
    within, weights = [], []
    for size in range(1, n_layer + 1):
        of_size = count == size
        if of_size.sum() >= 10:
            within.append(spearmanr(a[of_size], b[of_size]).statistic)
            weights.append(of_size.sum())
    mean = float(np.average(within, weights=weights)) if within else float("nan")
    return float(spearmanr(a, b).statistic), mean


def report(table: Table, others: Sequence[Table], loss: Judge = "val") -> str:
    """All of it as markdown.

    Raises:
        ValueError: If another table has another number of layers.
    """
    losses = final_losses(table, loss)
    sized = ("independent layers", "sharings", "mean, nats", "best", "its loss", "mean less best")
    text = markdown_table(sized, by_size(table, loss), left=(3, 5)) + "\n"
    if len(losses) > 1:
        parts = spread(losses)
        text += (
            f"standard deviations: sharings {parts.choices:.4f}, seeds {parts.seeds:.4f}, what "
            f"is neither {parts.rest:.4f} nats; of the mean over {len(losses)} seeds "
            f"{parts.rest / len(losses) ** 0.5:.4f}\n\n"
        )
    half, quarter = len(table.points) // 2 - 1, len(table.points) // 4 - 1
    compared = [
        (f"itself after {table.points[p]} iterations", losses, final_losses(table, loss, p))
        for p in (quarter, half)
        if p >= 0
    ]
    if len(losses) > 1:
        compared.append(("itself, odd against even seeds", losses[::2], losses[1::2]))
    for other in others:
        if other.n_layer != table.n_layer:
            raise ValueError(
                f"table {other.name!r} has {other.n_layer} layers, but {table.name!r} has "
                f"{table.n_layer}: compare tables of as many"
            )
        compared.append((markdown_text(other.name), losses, final_losses(other, loss)))
    lines = []
    for name, ours, theirs in compared:
        over_all, within = agreement(ours, theirs, table.n_layer)
        shown = "" if math.isnan(within) else f"{within:.2f}"
        lines.append((name, f"{over_all:.2f}", shown))
    ranked = ("rank correlation with", "all sharings", "within sizes")
    return text + markdown_table(ranked, lines)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else list(args)
    options = read_command_line(Options, "tiegym.bench.ranking", __doc__, args=args)
    with input_errors():
        text = report(
            load_table(options.table), [load_table(name) for name in options.other], options.loss
        )
    say(text.rstrip(), sys.stdout)


if __name__ == "__main__":
    main()
