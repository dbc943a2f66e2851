"""PPO that chooses among the actions that differ only, by sb3-contrib.

    python -m agents.maskable_ppo --seed 1

Huang and Ontanon 2022, *A Closer Look at Invalid Action Masking in Policy Gradient Algorithms*,
arXiv 2006.14171. No action of the environment is invalid, but with layerwise actions all that
make a layer independent are one: with the others masked, the untrained agent ties the layer to
each of the earlier ones as often as it makes it independent. Pair and joint actions all differ:
there it is `agents.ppo` under another name. The masks are the environment's `action_masks()`, and
have to be given to `predict` too. Everything else is as in `agents.ppo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sb3_contrib import MaskablePPO

from agents import ppo
from agents.protocols import train_agent
from agents.reward_differences import Env, level_free
from tiegym.runs.program import run_program


@dataclass(frozen=True)
class Options(ppo.Options):
    """Train a transformer under PPO with action masks."""


def make_model(options: Options, env: Env) -> MaskablePPO:
    """The untrained agent."""
    env = level_free(env, options)
    return MaskablePPO("MultiInputPolicy", env, **ppo.settings(options, env))


def train(options: Options) -> Path:
    """Trains the transformer and the agent; returns the run folder, which gets `agent.zip`."""
    return train_agent(options, "maskable_ppo", lambda env: make_model(options, env))


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
