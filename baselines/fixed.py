"""Fixed tying: one pattern from the first iteration to the last.

python -m baselines.fixed --pattern cycle:2 --seed 1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiegym import parts
from tiegym.policies.fixed import FixedTies
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer under a fixed tie vector."""

    pattern: str = "independent"
    """independent, tied, sequence:M, cycle:M, cycle-rev:M, sandwich, middle-cycle:B, or a vector
    such as 0,0,2,2; takes the place of env.initial-ties."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If the pattern is unknown, or impossible for the number of layers.
        """
        super().__post_init__()
        parts.parse(self.pattern, self.env.n_layer, self.env.n_parts)


def train(options: Options, program: str = "fixed") -> Path:
    """Trains under the pattern; returns the run folder.

    Args:
        options: The program's.
        program: What the run is named after, with the pattern behind it.
    """
    env_config = dataclasses.replace(options.env, initial_ties=options.pattern)
    options = dataclasses.replace(options, env=env_config)
    ties = parts.parse(options.pattern, env_config.n_layer, env_config.n_parts)
    with open_run(options, f"{program}-{options.pattern}") as env:
        kinds = env.get_wrapper_attr("actions").kinds
        policy = FixedTies(ties, env.action_space, kinds=kinds)
        run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
