"""PPO with an LSTM, by sb3-contrib: it remembers the training run so far; all kinds of actions.

    python -m agents.recurrent_ppo --pretrain-runs 8 --seed 1

An observation shows where the run stands, not how it came there: which ties were tried, and what
the loss did then. A recurrent policy (Hochreiter and Schmidhuber 1997) can keep that, from the
first environment step of an episode to its last. Its hidden state has to be handed on from one
`predict` to the next. Everything else is as in `agents.ppo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.torch_layers import CombinedExtractor

from agents import ppo
from agents.protocols import train_agent
from agents.reward_differences import Env, level_free
from tiegym.runs.program import run_program


@dataclass(frozen=True)
class Options(ppo.Options):
    """Train a transformer under PPO with an LSTM, which remembers the training run."""

    lstm_size: int = 64
    """Units of the actor's LSTM, and of the critic's."""

    @classmethod
    def on_table(cls) -> dict[str, Any]:
        """See `TableOptions.on_table`."""
        return {**super().on_table(), "n_epochs": 5}


class FlatObservation(CombinedExtractor):
    """The whole observation as one vector, whose width is a Python integer.

    Stable-Baselines3 adds up the width of a MultiDiscrete space in NumPy's integers, which
    PyTorch's LSTM refuses.

    Args:
        observation_space: Of the environment.
    """

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space)
        self._features_dim = int(self._features_dim)


def make_model(options: Options, env: Env) -> RecurrentPPO:
    """The untrained agent."""
    env = level_free(env, options)
    return RecurrentPPO(
        "MultiInputLstmPolicy",
        env,
        policy_kwargs={
            "features_extractor_class": FlatObservation,
            "lstm_hidden_size": options.lstm_size,
            "net_arch": [options.lstm_size],
        },
        **ppo.settings(options, env),
    )


def train(options: Options) -> Path:
    """Trains the transformer and the agent; returns the run folder, which gets `agent.zip`."""
    return train_agent(options, "recurrent_ppo", lambda env: make_model(options, env))


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    # By its full name, so that agent.zip refers to agents.recurrent_ppo and not to __main__,
    # where no other program would find FlatObservation.
    from agents.recurrent_ppo import main as program

    program()
