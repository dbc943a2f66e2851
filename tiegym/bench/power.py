"""How large a difference a number of seeds can show: what a study is planned with.

    python -m tiegym.bench.power tree-4x2-wikitext-2-sum patterns-6-wikitext-2-sum
    python -m tiegym.bench.power tree-4x2-wikitext-2-sum --seeds 10 --comparisons 12

Two policies with the same seeds are compared by the mean of their paired differences. How far these
scatter is read from a table, for every pair of fixed sharings and, in a tree, for every pair of
ends of sequences; the smallest difference that Student's test finds with a given power follows.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import tyro

from tiegym.analysis.intervals import smallest_difference
from tiegym.analysis.markdown import markdown_table, markdown_text
from tiegym.bench.ranking import final_losses, sizes
from tiegym.bench.table import Floats, Judge, Table, load_table
from tiegym.bench.tree import Ints
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import input_errors
from tiegym.runs.messages import say

MOST_ENDS = 2000
"""Of more ends of sequences so many are drawn: two million pairs."""


@dataclass(frozen=True)
class Options:
    """Print the smallest differences that numbers of seeds can show."""

    tables: tyro.conf.Positional[tuple[str, ...]]
    """Shipped tables' names, or paths of .npz files."""
    seeds: tuple[int, ...] = (5, 10, 20)
    """Numbers of seeds that a study may have."""
    power: float = 0.8
    """The probability with which the difference is to be found."""
    level: float = 0.05
    """Of the two-sided test: the probability of finding a difference where there is none."""
    comparisons: int = 1
    """Tests that the level is for together: each has its part of it (Bonferroni's correction).
    What is found so is also found by Holm's, which finds more."""
    loss: Judge = "val"
    """Which loss."""


class Pairs(NamedTuple):
    """Standard deviations over seeds of the paired differences of some pairs, in nats.

    Attributes:
        name: Which pairs.
        deviations: One for each pair, (P,).
    """

    name: str
    deviations: Floats


def pair_deviations(figures: Floats) -> Floats:
    """The standard deviation over seeds of the difference of every two columns, (N, N).

    Args:
        figures: A row for each seed, a column for each choice, (R, N).

    Raises:
        ValueError: If there are fewer than two seeds.
    """
    if len(figures) < 2:
        raise ValueError(f"{len(figures)} recorded seed: a standard deviation takes at least 2")
    centred = figures - figures.mean(axis=0)
    products = centred.T @ centred / (len(figures) - 1)
    own = np.diag(products)
    variances: Floats = own[:, None] + own - 2 * products
    return np.sqrt(np.maximum(variances, 0.0))  # equal ones are 0 up to rounding


def all_pairs(table: Table, loss: Judge = "val") -> list[Pairs]:
    """The pairs of a table: of fixed sharings, of a tree's ends, and those of equal size of each.

    Ends that come from the same training are one. Kinds without a pair are left out.

    Raises:
        ValueError: If the table has fewer than two seeds.
    """
    kinds = [("fixed sharings", final_losses(table, loss), sizes(table.n_layer))]
    if table.is_tree:
        ends = _ends(table)
        name = "ends of sequences"
        if len(ends) > MOST_ENDS:
            name += f", {MOST_ENDS:,} of {len(ends):,}"
            ends = np.sort(np.random.default_rng(0).choice(ends, MOST_ENDS, replace=False))
        independent = (table.tree.ties[ends] == np.arange(table.n_layer)).sum(axis=1)
        kinds.append((name, table.losses(loss)[:, ends], independent))
    found = []
    for name, figures, size in kinds:
        i, j = np.triu_indices(figures.shape[1], k=1)
        of_pairs = pair_deviations(figures)[i, j]
        found += [
            Pairs(name, of_pairs),
            Pairs(f"{name}, equal size", of_pairs[size[i] == size[j]]),
        ]
    return [pairs for pairs in found if len(pairs.deviations)]


def _ends(table: Table) -> Ints:
    """A leaf for each training that a sequence of decisions ends with."""
    leaves = table.tree.leaves
    _, first = np.unique(table.tree.segment[leaves], return_index=True)
    ends: Ints = leaves[first]
    return ends


def report(
    table: Table,
    seeds: Sequence[int] = (5, 10, 20),
    power: float = 0.8,
    level: float = 0.05,
    comparisons: int = 1,
    loss: Judge = "val",
) -> str:
    """A table in markdown: the middle pair and the 90 % quantile of each kind, in nats.

    Args:
        table: Whose noise is taken.
        seeds: A column for each.
        power: The probability with which the difference is found.
        level: Of all tests together.
        comparisons: How many these are.
        loss: At the end of training.

    Raises:
        ValueError: If the table has one seed, or a number is out of range.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons={comparisons!r} are too few: give 1 or more")
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} is out of range: give a number between 0 and 1")
    factors = [smallest_difference(n, power, level / comparisons) for n in seeds]
    lines = [
        _row("in standard deviations of the differences", "", "", 1.0, factors),
    ]
    for name, deviations in all_pairs(table, loss):
        middle, high = np.quantile(deviations, (0.5, 0.9))
        lines.append(_row(name, f"{len(deviations):,}", "median", middle, factors))
        lines.append(_row("", "", "90 % quantile", high, factors))
    headings = ("pairs", "number", "", "s.d.", *(f"{n} seeds" for n in seeds))
    return markdown_table(headings, lines, left=(0, 2))


def _row(
    name: str, number: str, which: str, deviation: float, factors: Sequence[float]
) -> list[str]:
    values = [f"{deviation:.4f}", *(f"{deviation * factor:.4f}" for factor in factors)]
    return [name, number, which, *values]


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else list(args)
    options = read_command_line(Options, "tiegym.bench.power", __doc__, args=args)
    with input_errors():
        if not options.tables or not options.seeds:
            raise ValueError("there is nothing to say: name a table or more, and numbers of seeds")
        tables = [load_table(name) for name in options.tables]
        o = options
        texts = [
            report(table, o.seeds, o.power, o.level, o.comparisons, o.loss) for table in tables
        ]
    which = {"val": "validation", "test": "test"}[options.loss]
    corrected = f" / {options.comparisons}" if options.comparisons > 1 else ""
    say(
        "The smallest difference of means that a paired t-test finds with power "
        f"{options.power:g} at level {options.level:g}{corrected}: in nats of {which} loss, from "
        "the standard deviations over seeds of the differences of pairs.",
        sys.stdout,
    )
    for table, text in zip(tables, texts, strict=True):
        heading = f"{markdown_text(table.name)}, {len(table.all_seeds)} recorded seeds:"
        say(f"\n{heading}\n\n{text.rstrip()}", sys.stdout)


if __name__ == "__main__":
    main()
