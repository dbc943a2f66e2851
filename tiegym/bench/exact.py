"""What is known exactly of a tree: how good each policy is, at each price of parameters.

    python -m tiegym.bench.exact tree-4x2-stdlib-owner

The objective is the loss at the end plus the price times the independent share at the end, in nats;
lower is better. It is what an episode's return of reward "delta_ppl_params" adds up to, less what
no decision changes. Nothing is sampled.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import tyro

from tiegym import ties as tie_vectors
from tiegym.analysis.intervals import Difference, paired_difference
from tiegym.analysis.markdown import markdown_table
from tiegym.bench.spread import Spread, spread
from tiegym.bench.table import Floats, Judge, Split, Table, load_table
from tiegym.bench.tree import Ints, sharings
from tiegym.bench.values import (
    Choice,
    best_leaf,
    independent_share,
    lookahead_leaves,
    node_rewards,
    objectives,
    policy_values,
    uniform_allowed,
    uniform_raw,
)
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import input_errors
from tiegym.runs.messages import say

PATTERNS = ("independent", "tied", "cycle:2", "sequence:2", "sandwich")


@dataclass(frozen=True)
class Options:
    """Print what is known exactly of a tree."""

    table: tyro.conf.Positional[str]
    """A shipped table's name, or the path of an .npz file."""
    loss: Judge = "val"
    """By which policies are judged."""


@dataclass(frozen=True)
class Known:
    """A policy on a split of a table.

    Attributes:
        policy: Its name.
        chosen: What was chosen, where it was on the train seeds: decisions or ties.
        objective: Loss at the end plus price times share, in nats, for each seed, (R,).
        share: Independent share at the end, the mean over seeds.
    """

    policy: str
    chosen: str
    objective: Floats
    share: float


def known(
    table: Table,
    price: float,
    split: Split = "held-out",
    loss: Judge = "val",
) -> list[Known]:
    """All that is known exactly, best first.

    What is chosen is chosen by validation loss on the train seeds, and judged on `split`.

    Args:
        table: A tree.
        price: In nats, of training all layers independently.
        split: Whose seeds it is judged on.
        loss: By which it is judged; what knows the seed knows this loss.

    Raises:
        ValueError: If the table has no tree.
    """
    tree, train, rows = table.tree, table.rows_of("train"), table.rows_of(split)
    share = independent_share(tree)
    ends = objectives(table, price, loss)[rows]  # (R, N); meant at the leaves
    leaves = tree.leaves
    best = leaves[ends[:, leaves].argmin(axis=1)]
    found = [
        Known("clairvoyant", "", ends[np.arange(len(rows)), best], float(share[best].mean())),
    ]
    rewards = node_rewards(table, "delta_ppl_params", price)
    leaf = best_leaf(tree, rewards[train])
    decisions = ", ".join(map(str, tree.path(leaf)))
    found.append(Known("best sequence", decisions, ends[:, leaf], float(share[leaf])))
    greedy = lookahead_leaves(tree, rewards[rows])
    greedy_ends = ends[np.arange(len(rows)), greedy]
    found.append(Known("lookahead", "", greedy_ends, float(share[greedy].mean())))
    found += _by_chance(table, ends)
    found += _fixed(table, price, rows, train, loss)
    return sorted(found, key=lambda k: float(k.objective.mean()))


def _by_chance(table: Table, ends: Floats) -> list[Known]:
    """Policies that draw at every decision: their expected objective for each seed."""
    tree, share = table.tree, independent_share(table.tree)
    rewards = np.zeros((len(ends) + 1, len(tree.ties)))
    rewards[:-1, tree.leaves] = ends[:, tree.leaves]
    rewards[-1, tree.leaves] = share[tree.leaves]
    choices: dict[str, Choice] = {"random": uniform_allowed, "random-raw": uniform_raw}
    result = []
    for name, choice in choices.items():
        values = policy_values(tree, rewards, choice)[:, 0]
        result.append(Known(name, "", values[:-1], float(values[-1])))
    return result


def _fixed(table: Table, price: float, rows: Ints, train: Ints, loss: str) -> list[Known]:
    """Sharings that hold from the first iteration, and untied models of fewer layers."""
    n, vectors = table.n_layer, sharings(table.n_layer)
    share = (vectors == np.arange(n)).mean(axis=1)
    final = table.arrays[f"fixed_{loss}"][:, :, -1].astype(np.float64) + price * share
    chosen_by = table.arrays["fixed_val"][:, :, -1].astype(np.float64) + price * share
    best = int(chosen_by[train].mean(axis=0).argmin())
    result = [
        Known("best pattern", _text(vectors[best]), final[rows, best], float(share[best])),
    ]
    for name in PATTERNS:
        if name == "sandwich" and n < 3:
            continue
        place = table.sharing_of(name)
        result.append(Known(name, _text(vectors[place]), final[rows, place], float(share[place])))
    weights = np.zeros(len(vectors))
    places = {tuple(vector): place for place, vector in enumerate(vectors.tolist())}
    for ties in product(*(range(layer + 1) for layer in range(n))):
        weights[places[tuple(tie_vectors.roots(np.array(ties)).tolist())]] += 1
    weights /= weights.sum()
    result.append(Known("random-fixed", "", final[rows] @ weights, float(share @ weights)))
    shallow = table.arrays[f"shallow_{loss}"][:, :, -1].astype(np.float64)
    for layers in range(1, n):
        objective = shallow[rows, layers - 1] + price * layers / n
        result.append(Known(f"shallow:{layers}", "", objective, layers / n))
    return result


def _text(ties: tie_vectors.Ties) -> str:
    return ",".join(map(str, ties.tolist()))


def price_where_tying_wins(table: Table) -> float:
    """The price from which on, on the train seeds, all tied is the best fixed sharing."""
    vectors = sharings(table.n_layer)
    share = (vectors == np.arange(table.n_layer)).mean(axis=1)
    final = table.arrays["fixed_val"][table.rows_of("train"), :, -1].mean(axis=0, dtype=np.float64)
    tied = table.sharing_of("tied")
    others = np.flatnonzero(share > share[tied])
    return max(0.0, float(((final[tied] - final[others]) / (share[others] - share[tied])).max()))


@dataclass(frozen=True)
class Gains:
    """What could be won over the best fixed pattern, in nats, over all recorded seeds.

    What is chosen is chosen on three quarters of the seeds and judged on the fourth, in turn. The
    intervals are Student's over seeds: approximate, as the choices share seeds.

    Attributes:
        clairvoyant: By knowing each seed: a bound that chance is part of, the best of so many ends.
        sequence: By the best decisions made in advance; negative if they lose.
        spread: Of the objective over the ends of all sequences.
    """

    clairvoyant: Difference
    sequence: Difference
    spread: Spread


def adapting_gains(table: Table, price: float) -> Gains:
    """What adapting could gain over the best fixed pattern; see `Gains`.

    Raises:
        ValueError: If the table has no tree, or fewer than two seeds.
    """
    pattern: list[float] = []
    others: dict[str, list[float]] = {"clairvoyant": [], "best sequence": []}
    for part in folds(table):
        by_name = {k.policy: k.objective for k in known(part, price)}
        pattern += by_name["best pattern"].tolist()
        for name, values in others.items():
            values += by_name[name].tolist()
    clairvoyant, sequence = (paired_difference(pattern, v) for v in others.values())
    leaves = table.tree.leaves
    ends = table.losses("val")[:, leaves] + price * independent_share(table.tree)[leaves]
    return Gains(clairvoyant, sequence, spread(ends))


def folds(table: Table, n: int = 4) -> list[Table]:
    """The table with each of n parts of its seeds as the split held-out, and the others as train.

    Raises:
        ValueError: If it has fewer than two seeds.
    """
    seeds = np.array(table.all_seeds)
    if len(seeds) < 2:
        raise ValueError(f"table {table.name!r} has one seed: nothing can be chosen and judged")
    result = []
    for part in np.array_split(np.arange(len(seeds)), min(n, len(seeds))):
        rest = np.setdiff1d(np.arange(len(seeds)), part)
        arrays = {k: a[np.concatenate([rest, part])] for k, a in table.arrays.items()}
        split = {"train": seeds[rest].tolist(), "held-out": seeds[part].tolist()}
        result.append(dataclasses.replace(table, seeds=split, arrays=arrays))
    return result


def markdown(table: Table, prices: Sequence[float], loss: Judge = "val") -> str:
    """A table of all that is known: a row for each policy, a column for each price."""
    columns = [{k.policy: k for k in known(table, price, loss=loss)} for price in prices]
    order = sorted(columns[0], key=lambda name: float(columns[0][name].objective.mean()))
    lines = []
    for name in order:
        cells = [f"{c[name].objective.mean():.4f} ({c[name].share:.2f})" for c in columns]
        lines.append((name, *cells))
    return markdown_table(("policy", *(f"price {price:.3g}" for price in prices)), lines)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else list(args)
    options = read_command_line(Options, "tiegym.bench.exact", __doc__, args=args)
    with input_errors():
        table = load_table(options.table)
        most = price_where_tying_wins(table)
        prices = [share * most for share in (0.0, 0.25, 0.5, 1.0)]
        text = markdown(table, prices, options.loss)
    say(
        "Loss at the end plus price times independent share (nats, mean of the held-out seeds; "
        f"in brackets the share); what is chosen is chosen on the train seeds.\n\n{text}",
        sys.stdout,
    )
    for price in prices:
        gains = adapting_gains(table, price)
        parts = gains.spread
        say(
            f"price {price:.3g}: over the best fixed pattern, knowing each seed gains "
            f"{_interval(gains.clairvoyant)} nats, the best decisions made in advance "
            f"{_interval(gains.sequence)}; s.d. of sequences {parts.choices:.4f}, of seeds "
            f"{parts.seeds:.4f}, of what is neither {parts.rest:.4f}",
            sys.stdout,
        )


def _interval(d: Difference) -> str:
    bounds = "" if d.low is None else f" [{d.low:+.4f}, {d.high:+.4f}]"
    return f"{d.value:+.4f}{bounds}"


if __name__ == "__main__":
    main()
