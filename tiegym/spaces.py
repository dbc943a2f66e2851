"""The environment's action and observation spaces."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from tiegym.config import TieConfig
from tiegym.transformer.layer_stats import FEATURES


def make_action_space(config: TieConfig) -> spaces.Space[Any]:
    """The space of one of the three action protocols; see `tiegym.env.TieEnv`."""
    n = config.n_layer
    if config.action == "joint":
        return spaces.MultiDiscrete(np.arange(2, n + 1))
    return spaces.Discrete(n if config.action == "layerwise" else n * (n + 1) // 2)


def make_observation_space(config: TieConfig) -> spaces.Dict:
    """The space of every observation; see `tiegym.env.TieEnv`."""
    n = config.n_layer
    return spaces.Dict(
        {
            "ties": spaces.MultiDiscrete(np.arange(1, n + 1)),
            "layer": spaces.Discrete(n),
            "budget": spaces.Box(0, 1, (1,)),
            "loss": spaces.Box(0, np.float32(config.divergence_loss), (2,)),
            "layer_stats": spaces.Box(-1, 1, (n * len(FEATURES),)),
        }
    )
