"""Random tying: every action uniform over the allowed choices. The null model.

    python -m baselines.random_tying --seed 1

Layer by layer it leaves H_L = 1 + 1/2 + ... + 1/L independent layers on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from tiegym import ties as tie_vectors
from tiegym.programs import open_run, run_policy, run_program
from tiegym.run_options import RunOptions


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer whose ties change at random at every step."""


class RandomTying:
    """The policy that draws uniformly from the choices that differ from each other.

    Args:
        action_space: Of the environment; says which action protocol it speaks.
        n_layer: Layers L.
        seed: Of its own generator; the environment's is not touched.
    """

    def __init__(self, action_space: gymnasium.Space[Any], n_layer: int, seed: int) -> None:
        """Makes the generator."""
        self.rng = np.random.default_rng((seed, 1))  # a stream apart from the environment's
        self.n_layer = n_layer
        self.joint = isinstance(action_space, gymnasium.spaces.MultiDiscrete)
        self.n_pairs = 0 if self.joint else int(action_space.n)  # type: ignore[attr-defined]

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """A random action; the same in deterministic mode, for it has no other."""
        if self.joint:
            return tie_vectors.sample(self.n_layer, self.rng)[1:], None
        if self.n_pairs == self.n_layer:
            return self.rng.integers(int(observation["layer"]) + 1), None
        return self.rng.integers(self.n_pairs), None


def train(options: Options) -> Path:
    """Trains under random tying; returns the run folder."""
    with open_run(options, "random_tying") as env:
        policy = RandomTying(env.action_space, options.env.n_layer, options.seed)
        run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
