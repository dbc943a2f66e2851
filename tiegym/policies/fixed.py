"""Fixed tying: the policy that leads to one tie vector and stays there."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from tiegym import ties as tie_vectors
from tiegym.ties import Ties


class FixedTies:
    """The policy that leads to a tie vector by the shortest way, and stays there.

    Args:
        ties: The tie vector, shape (L,).
        action_space: Of the environment; says which action protocol it speaks.
    """

    def __init__(self, ties: Ties, action_space: gymnasium.Space[Any]) -> None:
        """Remembers both."""
        self.ties = ties
        self.joint = isinstance(action_space, gymnasium.spaces.MultiDiscrete)
        self.layerwise = not self.joint and action_space.n == len(ties)  # type: ignore[attr-defined]

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """The action that brings the ties closer, or one that changes nothing."""
        if self.joint:
            return self.ties[1:], None
        if self.layerwise:
            return self.ties[observation["layer"]], None
        different = np.flatnonzero(self.ties != observation["ties"])
        layer = int(different[0]) if different.size else 0  # (0, 0) changes nothing
        return np.int64(tie_vectors.pair_index(layer, int(self.ties[layer]))), None
