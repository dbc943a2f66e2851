"""The environment's action and observation spaces, and what lies in them: actions, observations.

No PyTorch: tables need them, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from tiegym.actions import Actions
from tiegym.config import TieConfig
from tiegym.episode import Episode


def make_action_space(config: TieConfig) -> spaces.Space[Any]:
    """The space of one of the three action protocols; see `tiegym.env.TieEnv`."""
    return Actions.of(config).space()


def make_observation_space(config: TieConfig) -> spaces.Dict:
    """The space of every observation; see `tiegym.env.TieEnv`."""
    n, actions = config.n_layer, Actions.of(config)
    entries: dict[str, spaces.Space[Any]] = {
        # 16 bits, so that all of it flattened is float32 and not float64.
        "ties": spaces.MultiDiscrete(actions.layer + 1, dtype=np.int16),
        "layer": spaces.Discrete(n, dtype=np.int16),
        "budget": spaces.Box(0, 1, (1,)),
        "loss": spaces.Box(0, np.float32(config.divergence_loss), (2,)),
        "layer_stats": spaces.Box(-1, 1, (actions.n_units * len(config.feature_names),)),
    }
    if actions.n_parts > 1:
        entries["part"] = spaces.Discrete(actions.n_parts, dtype=np.int16)
    if actions.freeze:
        entries["frozen"] = spaces.MultiBinary(actions.n_units)
    return spaces.Dict(entries)


def observe(episode: Episode, config: TieConfig) -> dict[str, Any]:
    """The observation of an episode as it stands, fresh arrays."""
    share = episode.iteration / config.max_iters
    losses = [episode.train_loss, episode.loss]
    observation = {
        "ties": np.array(episode.ties, dtype=np.int16),
        "layer": episode.layer,  # an int: checkers take no NumPy scalar of 16 bits
        "budget": np.array([share], dtype=np.float32),
        "loss": np.array(losses, dtype=np.float32).clip(0, config.divergence_loss),
        "layer_stats": np.array(episode.stats, dtype=np.float32),
    }
    if config.n_parts > 1:
        observation["part"] = episode.part
    if config.choices == "tie+freeze":
        observation["frozen"] = np.array(episode.frozen, dtype=np.int8)
    return observation
