"""A random tie vector that is drawn once, by the seed, and kept.

    python -m baselines.random_fixed --seed 1

Random tying changes ties all the time, and changing costs. Whoever is better than it may have done
no more than stop: this is what stopping at chance is worth.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiegym.policies.fixed import FixedTies
from tiegym.policies.random_tying import drawn_ties
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer under a tie vector drawn at random; takes env.initial-ties' place."""


def train(options: Options) -> Path:
    """Trains under the vector that belongs to the seed; returns the run folder."""
    ties = drawn_ties(options.env.n_layer, options.seed, options.env.n_parts)
    env_config = dataclasses.replace(options.env, initial_ties=tuple(ties.tolist()))
    options = dataclasses.replace(options, env=env_config)
    with open_run(options, "random_fixed", drawn={"ties": ties}) as env:
        run_policy(env, FixedTies(ties, env.action_space), options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
