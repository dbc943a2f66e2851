"""A surrogate of training: what a sharing is worth, learnt from recorded runs of fixed sharings.

    python -m agents.surrogate --size 2 --env.n-layer 12
    python -m agents.surrogate --learn-from patterns-6-wikitext-2-owner --size 3

Supervised, without reinforcement: ridge regression on a few features, which don't know how many
layers there are, predicts the validation loss of a sharing (`agents.sharing_model`). It learns from
TieBench tables of small transformers. The sharing of the wanted size that it holds for the best
(`agents.sharing_search`) is then trained from the first iteration on, at any depth and on any text.
The iterations of the recorded runs are `extra_iterations` in summary.json; the model, and how well
it ranks what it hasn't seen, are in config.json. It never learns from a recorded run of the seed of
its own run, whatever the text: the initial weights are the seed's, too.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agents.sharing_model import (
    FEATURES,
    Recorded,
    SharingModel,
    cross_validate,
    learn,
    n_groups,
    parse_features,
    recorded_sharings,
)
from agents.sharing_search import best_sharing, of_size
from tiegym import ties as tie_vectors
from tiegym.bench.table import Floats
from tiegym.bench.tree import Ints
from tiegym.config import TieConfig
from tiegym.policies.fixed import FixedTies
from tiegym.runs.begin import begin_run
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.json_files import finite, plain
from tiegym.runs.messages import say
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.training.load import kinds_of


@dataclass(frozen=True)
class Options(RunOptions):
    """Learn from recorded runs what a sharing is worth, then train under the best."""

    learn_from: tuple[str, ...] = ("patterns-6-wikitext-2-sum",)
    """TieBench tables, by name or as paths of .npz files. It learns from their fixed sharings, in
    the seeds of the split train."""
    size: int | None = None
    """Independent layers of the sharing. None takes the number of which the predicted loss, plus
    the price of independent layers where the reward has one, is lowest."""
    features: str = "+".join(FEATURES)
    """What it sees of a sharing, joined by +."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            FileNotFoundError: If there is no such table.
            ValueError: If one is out of range.
        """
        super().__post_init__()
        object.__setattr__(self, "features", "+".join(parse_features(self.features)))
        if self.env.tie_parts != "block":
            raise ValueError(
                f"env.tie_parts={self.env.tie_parts!r}: what is recorded are sharings of whole "
                "blocks; take env.tie_parts='block'"
            )
        if self.env.n_layer < 2:
            raise ValueError(
                f"env.n_layer={self.env.n_layer} must be at least 2: one has no choice"
            )
        if self.size is not None and not 1 <= self.size <= self.env.n_layer:
            raise ValueError(
                f"size={self.size} must be from 1 to env.n_layer={self.env.n_layer} independent "
                "layers, or None"
            )
        if not self.learn_from or len({*self.learn_from}) < len(self.learn_from):
            raise ValueError(f"learn_from={self.learn_from!r} must name a table or more, each once")
        for name in self.learn_from:
            recorded_sharings(name)


@dataclass(frozen=True)
class Chosen:
    """The sharing that is trained."""

    ties: tuple[int, ...]
    n_independent: int
    predicted: float
    """Its loss less the mean of its size, in nats: both are the model's predictions."""


def choose(model: SharingModel, options: Options) -> Chosen:
    """The best sharing of the environment's layers by the model, the same at every call."""
    n_layer, price = options.env.n_layer, options.env.param_cost

    def cost(groups: Ints) -> Floats:  # the price is zero but for rewards with one
        return model.predict(groups) + price * n_groups(groups) / n_layer

    ties = best_sharing(cost, n_layer, options.size)
    size = int(n_groups(ties[None])[0])
    mean = model.predict(of_size(n_layer, size)).mean()
    return Chosen(tuple(ties.tolist()), size, float(model.predict(ties[None])[0] - mean))


def learn_and_choose(tables: Sequence[Recorded], options: Options) -> dict[str, Any]:
    """What the run records: the model, how well it ranks, and what it chose; plain values."""
    features = parse_features(options.features)
    model = learn(tables, features)
    ranks = cross_validate(tables, features)
    found = {"chosen": choose(model, options), "sharing_model": model, "rank_correlations": ranks}
    values: dict[str, Any] = finite(plain(found))
    return values


def report(found: dict[str, Any]) -> str:
    """Lines that say what was learnt and chosen."""

    def figures(ranks: list[float | None]) -> str:
        over_all, within = ("none" if rank is None else f"{rank:.2f}" for rank in ranks)
        return f"{over_all} (within sizes {within})"

    chosen, weights = found["chosen"], found["sharing_model"]["weights"]
    return "\n".join(
        [
            *(
                f"{one['table']}: rank correlation with seeds unseen {figures(one['predicted'])} "
                f"of predictions for sharings unseen, {figures(one['other_seeds'])} of other seeds"
                for one in found["rank_correlations"]
            ),
            "nats: " + ", ".join(f"{name} {nats:+.3f}" for name, nats in weights.items()),
            f"chosen: {chosen['n_independent']} independent layers, "
            f"{','.join(map(str, chosen['ties']))}; predicted {chosen['predicted']:+.3f} nats from "
            "the mean of this size",
        ]
    )


def check_found(found: dict[str, Any], options: Options) -> None:
    """Fails at a record that `learn_and_choose` can't have made.

    Raises:
        LookupError: If something is missing.
        TypeError: If something is of another kind.
        ValueError: If it holds something else, or the ties aren't those of so many layers.
    """
    if other := found.keys() - {"chosen", "sharing_model", "rank_correlations"}:
        raise ValueError(f"it has {', '.join(other)}")
    report(found)
    tie_vectors.validate(found["chosen"]["ties"], options.env.n_layer)


def check_kinds(env: TieConfig) -> None:
    """Refuses a model with layers of several kinds, of which tables and the cost know nothing.

    Raises:
        InputError: If it has some, or can't be made.
    """
    with as_input_errors():
        kinds = kinds_of(env)
    if kinds is not None:
        raise InputError(
            f"env.model={env.model!r} has layers of several kinds, and only those of one kind may "
            f"share weights ({', '.join(kinds[: env.n_layer])}): agents.surrogate chooses among "
            "sharings of any layers. Take a model with layers of one kind, or agents.evolution"
        )


def train(options: Options) -> Path:
    """Learns, chooses, and trains under the chosen sharing; returns the run folder.

    Raises:
        InputError: See `check_kinds`.
    """
    check_kinds(options.env)
    tables = [recorded_sharings(name, options.seed) for name in options.learn_from]
    with closing(begin_run(options, "surrogate")) as journal:
        found = journal.value(
            lambda: learn_and_choose(tables, options), partial(check_found, options=options)
        )
        if not options.quiet:
            say(report(found), sys.stdout)
        ties = tuple(found["chosen"]["ties"])
        trained = dataclasses.replace(
            options, env=dataclasses.replace(options.env, initial_ties=ties)
        )
        spec = {
            "protocol": "pretrained",
            "tables_sha256": [one.sha256 for one in tables],
            "tables_seeds": [one.seeds for one in tables],
        }
        with open_run(trained, "surrogate", journal, **spec, **found) as env:
            env.note(extra_iterations=sum(one.iterations for one in tables))
            policy = FixedTies(np.array(ties), env.action_space)
            run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
