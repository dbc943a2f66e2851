"""A shallower transformer: M layers, all independent. What else the same parameters can buy.

    python -m baselines.shallow --layers 2 --seed 1

Tying M of L layers leaves as many parameters as M layers without tying, at the price of L. Where
depth is worth nothing, the shallower transformer is as good and faster. In a comparison it is
shallow:M, and the only policy whose number of layers may differ from that of the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiegym import ties as tie_vectors
from tiegym.config import TieConfig
from tiegym.policies.fixed import FixedTies
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program


@dataclass(frozen=True)
class Options(RunOptions):
    """Train an untied transformer of fewer layers."""

    layers: int = 2
    """Its layers, at least 1; takes the place of env.n-layer, and env.initial-ties is
    independent. One layer leaves joint actions nothing to choose: its env.action is layerwise
    then, which changes nothing that it learns."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If the environment knows no transformer of so many layers.
        """
        super().__post_init__()
        if self.layers < 1:
            raise ValueError(f"layers={self.layers} must be at least 1, as env.n-layer must")
        self.used_env()

    def used_env(self) -> TieConfig:
        """The environment: the given one, but of so many layers, and untied.

        Raises:
            ValueError: If they don't go together.
        """
        action = "layerwise" if self.layers == 1 else self.env.action
        return dataclasses.replace(
            self.env, n_layer=self.layers, initial_ties="independent", action=action
        )


def train(options: Options) -> Path:
    """Trains the transformer; returns the run folder."""
    env_config = options.used_env()
    options = dataclasses.replace(options, env=env_config)
    ties = tie_vectors.parse("independent", options.layers)
    with open_run(options, f"shallow-{options.layers}") as env:
        run_policy(env, FixedTies(ties, env.action_space), options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
