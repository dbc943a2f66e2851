"""The environment's action and observation spaces, and what lies in them: actions, observations.

No PyTorch: tables need them, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from tiegym import ties as tie_vectors
from tiegym.config import Action, TieConfig
from tiegym.episode import FEATURES, Episode
from tiegym.ties import Ties


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
            # 16 bits, so that all of it flattened is float32 and not float64.
            "ties": spaces.MultiDiscrete(np.arange(1, n + 1), dtype=np.int16),
            "layer": spaces.Discrete(n, dtype=np.int16),
            "budget": spaces.Box(0, 1, (1,)),
            "loss": spaces.Box(0, np.float32(config.divergence_loss), (2,)),
            "layer_stats": spaces.Box(-1, 1, (n * len(FEATURES),)),
        }
    )


def ties_after(action: Any, ties: Ties, layer: int, kind: Action) -> Ties:
    """The tie vector that an action asks for, (L,).

    Args:
        action: Of the action space.
        ties: The tie vector before it, (L,).
        layer: The cursor.
        kind: Which action space.
    """
    if kind == "joint":
        result = ties.copy()
        result[1:] = action
        return result
    if kind == "pair":
        return tie_vectors.set_tie(ties, *tie_vectors.pair_from_index(int(action)))
    return tie_vectors.set_tie(ties, layer, int(action))


def observe(episode: Episode, config: TieConfig) -> dict[str, Any]:
    """The observation of an episode as it stands, fresh arrays."""
    share = episode.iteration / config.max_iters
    losses = [episode.train_loss, episode.loss]
    return {
        "ties": np.array(episode.ties, dtype=np.int16),
        "layer": episode.layer,
        "budget": np.array([share], dtype=np.float32),
        "loss": np.array(losses, dtype=np.float32).clip(0, config.divergence_loss),
        "layer_stats": np.array(episode.stats, dtype=np.float32),
    }
