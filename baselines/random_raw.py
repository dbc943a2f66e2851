"""Random actions: uniform over all of the action space, whether they differ or not.

    python -m baselines.random_raw --seed 1

The null model of agents that know no action mask, such as DQN and PPO, whose exploration this is:
layer by layer every action from the layer's own number on makes it independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiegym.policies.random_tying import RawRandom
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer under actions drawn uniformly from the whole action space."""


def train(options: Options) -> Path:
    """Trains under random actions; returns the run folder."""
    with open_run(options, "random_raw") as env:
        policy = RawRandom(env.action_space, options.seed)
        run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
