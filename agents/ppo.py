"""Proximal policy optimisation by Stable-Baselines3, for all three kinds of actions.

    python -m agents.ppo --env.action joint --seed 1
    python -m agents.ppo --env.action joint --pretrain-runs 8 --seed 1

Schulman et al. 2017, *Proximal Policy Optimization Algorithms*, arXiv 1707.06347. An environment
step costs seconds, and a run has about a hundred of them: rollouts are short, and each is gone
over many times. With layerwise actions `agents.maskable_ppo` explores better: here every target
from the layer itself on makes it independent, and so does most of an untrained policy's mass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv

from agents.agent_options import CriticOptions
from agents.protocols import train_agent
from agents.reward_differences import Env, level_free
from tiegym.runs.program import run_program


@dataclass(frozen=True)
class Options(CriticOptions):
    """Train a transformer under PPO, which learns during the run or beforehand."""

    learning_rate: float = 1e-3
    """Of the agent's Adam."""
    n_steps: int = 25
    """Environment steps of each member in a rollout, after which the agent learns; at least 2."""
    n_epochs: int = 20
    """Passes over each rollout, in one batch each."""
    gamma: float = 0.8
    """Discount; the agent looks about 1 / (1 - gamma) environment steps ahead."""
    gae_lambda: float = 0.8
    """Of generalised advantage estimation: 0 trusts the critic, 1 trusts the rewards seen."""
    clip_range: float = 0.2
    """How far one update may move the probability of an action, as a ratio to 1."""
    ent_coef: float = 0.003
    """Weight of the entropy bonus, for exploration."""

    @classmethod
    def on_table(cls) -> dict[str, Any]:
        """See `TableOptions.on_table`."""
        return {
            "envs": 10,
            "n_steps": 10,
            "n_epochs": 10,
            "gamma": 1.0,
            "gae_lambda": 0.95,
        }


def settings(options: Options, env: Env) -> dict[str, Any]:
    """The arguments of PPO, and of the algorithms that are made of it, but policy and env."""
    n_envs = env.num_envs if isinstance(env, VecEnv) else 1
    return {
        "learning_rate": options.learning_rate,
        "n_steps": options.n_steps,
        "batch_size": options.n_steps * n_envs,
        "n_epochs": options.n_epochs,
        "gamma": options.gamma,
        "gae_lambda": options.gae_lambda,
        "clip_range": options.clip_range,
        "ent_coef": options.ent_coef,
        "seed": options.seed,
        "device": "cpu",  # for so small a network a GPU is slower
    }


def make_model(options: Options, env: Env) -> PPO:
    """The untrained agent."""
    env = level_free(env, options)
    return PPO("MultiInputPolicy", env, **settings(options, env))


def train(options: Options) -> Path:
    """Trains the transformer and the agent; returns the run folder, which gets `agent.zip`."""
    return train_agent(options, "ppo", lambda env: make_model(options, env))


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
