"""Random tying: every action uniform over the allowed choices. The null model.

    python -m baselines.random_tying --seed 1

Layer by layer it leaves H_L = 1 + 1/2 + ... + 1/L independent layers on average.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiegym.policies.random_tying import RandomTying
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer whose ties change at random at every step."""


def train(options: Options) -> Path:
    """Trains under random tying; returns the run folder."""
    with open_run(options, "random_tying") as env:
        kinds = env.get_wrapper_attr("actions").kinds
        policy = RandomTying(env.action_space, options.env.n_layer, options.seed, kinds)
        run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
