"""Deep Q-learning by Stable-Baselines3, set for runs of a hundred expensive steps.

    python -m agents.dqn --seed 1
    python -m agents.dqn --env.action pair --pretrain-runs 8 --seed 1

Mnih et al. 2015, *Human-level control through deep reinforcement learning*. The settings known
from games count on millions of steps: here an environment step costs as much as many updates of
the agent, and a run has about a hundred of them. So every transition is learnt from many times,
the target network follows within some steps, exploration ends before half of the run is over, and
values look a few steps ahead. Exploration is the library's own, uniform over the action
space: with layerwise actions it leans towards independence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3 import DQN

from agents.agent_options import CriticOptions
from agents.protocols import train_agent
from agents.reward_differences import Env, level_free
from tiegym.runs.program import run_program


@dataclass(frozen=True)
class Options(CriticOptions):
    """Train a transformer under DQN, which learns during the run or beforehand."""

    learning_rate: float = 1e-3
    """Of the agent's Adam."""
    gamma: float = 0.7
    """Discount; the agent looks about 1 / (1 - gamma) environment steps ahead."""
    buffer_size: int = 10_000
    """Environment steps that the agent remembers; a run has fewer, so it remembers all of it."""
    learning_starts: int | None = None
    """Environment steps with random actions before the agent learns; None is a sweep, L-1."""
    batch_size: int = 32
    """Remembered steps in each update."""
    gradient_steps: int = 8
    """Updates after each environment step."""
    tau: float = 0.1
    """How far the target network moves towards the network at each environment step; 1 copies."""
    exploration_fraction: float = 0.4
    """Share of the learning over which the probability of a random action falls from 1."""
    exploration_final_eps: float = 0.02
    """Probability of a random action from then on."""

    @classmethod
    def on_table(cls) -> dict[str, Any]:
        """See `TableOptions.on_table`."""
        return {
            "envs": 50,
            "gamma": 1.0,
            "buffer_size": 100_000,
            "batch_size": 128,
            "gradient_steps": 4,
            "tau": 0.02,
            "exploration_fraction": 0.5,
        }

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If the actions are joint, or a value is out of range.
        """
        if self.env.action == "joint":
            raise ValueError(
                "DQN has a value for each single action, but env.action='joint' decides all "
                'layers at once: choose "layerwise" or "pair", or another agent, such as '
                "agents.ppo"
            )
        super().__post_init__()


def make_model(options: Options, env: Env) -> DQN:
    """The untrained agent."""
    env = level_free(env, options)
    sweep = options.env.n_layer - 1
    return DQN(
        "MultiInputPolicy",
        env,
        learning_rate=options.learning_rate,
        gamma=options.gamma,
        buffer_size=options.buffer_size,
        learning_starts=sweep if options.learning_starts is None else options.learning_starts,
        batch_size=options.batch_size,
        train_freq=1,
        gradient_steps=options.gradient_steps,
        tau=options.tau,
        target_update_interval=options.envs,  # at each step of all members
        exploration_fraction=options.exploration_fraction,
        exploration_final_eps=options.exploration_final_eps,
        seed=options.seed,
        device="cpu",  # for so small a network a GPU is slower
    )


def train(options: Options) -> Path:
    """Trains the transformer and the agent; returns the run folder, which gets `agent.zip`."""
    return train_agent(options, "dqn", lambda env: make_model(options, env))


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
