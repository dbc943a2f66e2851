"""A random tie vector that is drawn once, by the seed, and kept.

    python -m baselines.random_fixed --seed 1
    python -m baselines.random_fixed --seed 1 --size 2

Random tying changes ties all the time, and changing costs. Whoever is better than it may have done
no more than stop: this is what stopping at chance is worth. With a size it is the null model of
whoever chooses a sharing of so many layers and keeps it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiegym.policies.fixed import FixedTies
from tiegym.policies.random_tying import drawn_ties
from tiegym.runs.input_errors import as_input_errors
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.training.load import kinds_of


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer under a tie vector drawn at random; takes env.initial-ties' place."""

    size: int | None = None
    """Independent layers that the vector has; None are any."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range.
        """
        super().__post_init__()
        drawn_ties(self.env.n_layer, self.seed, size=self.size)


def train(options: Options) -> Path:
    """Trains under the vector that belongs to the seed; returns the run folder.

    Raises:
        InputError: If the model can't be made, or has layers of several kinds and a size is given.
    """
    with as_input_errors():
        kinds = kinds_of(options.env)
        ties = drawn_ties(
            options.env.n_layer, options.seed, options.env.n_parts, options.size, kinds
        )
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
