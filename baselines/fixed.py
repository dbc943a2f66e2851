"""Fixed tying: one pattern from the first iteration to the last.

python -m baselines.fixed --pattern cycle:2 --seed 1
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from tiegym import ties as tie_vectors
from tiegym.programs import open_run, run_policy, run_program
from tiegym.run_options import RunOptions
from tiegym.ties import Ties


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
        tie_vectors.parse(self.pattern, self.env.n_layer)


class FixedTies:
    """The policy that leads to a tie vector by the shortest way, and stays there.

    Args:
        ties: The tie vector, shape (L,).
        action_space: Of the environment; says which action protocol it speaks.
    """

    def __init__(self, ties: Ties, action_space: gymnasium.Space[Any]) -> None:
        """Remembers both."""
        self.ties = ties
        self.joint = isinstance(action_space, gymnasium.spaces.MultiDiscrete)
        self.layerwise = not self.joint and action_space.n == len(ties)  # type: ignore[attr-defined]

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """The action that brings the ties closer, or one that changes nothing."""
        if self.joint:
            return self.ties[1:], None
        if self.layerwise:
            return self.ties[observation["layer"]], None
        different = np.flatnonzero(self.ties != observation["ties"])
        layer = int(different[0]) if different.size else 0  # (0, 0) changes nothing
        return np.int64(tie_vectors.pair_index(layer, int(self.ties[layer]))), None


def train(options: Options) -> Path:
    """Trains under the pattern; returns the run folder."""
    env_config = dataclasses.replace(options.env, initial_ties=options.pattern)
    options = dataclasses.replace(options, env=env_config)
    ties = tie_vectors.parse(options.pattern, env_config.n_layer)
    with open_run(options, f"fixed-{options.pattern}") as env:
        run_policy(env, FixedTies(ties, env.action_space), options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
