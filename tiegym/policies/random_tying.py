"""Random tying: every action uniform over the allowed choices."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from tiegym import ties as tie_vectors


class RandomTying:
    """The policy that draws uniformly from the choices that differ from each other.

    Args:
        action_space: Of the environment; says which action protocol it speaks.
        n_layer: Layers L.
        seed: Of its own generator; the environment's is not touched.
    """

    def __init__(self, action_space: gymnasium.Space[Any], n_layer: int, seed: int) -> None:
        """Makes the generator."""
        self.rng = np.random.default_rng((seed, 1))  # a stream apart from the environment's
        self.n_layer = n_layer
        self.joint = isinstance(action_space, gymnasium.spaces.MultiDiscrete)
        self.n_pairs = 0 if self.joint else int(action_space.n)  # type: ignore[attr-defined]

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """A random action; the same in deterministic mode, for it has no other."""
        if self.joint:
            return tie_vectors.sample(self.n_layer, self.rng)[1:], None
        if self.n_pairs == self.n_layer:
            return self.rng.integers(int(observation["layer"]) + 1), None
        return self.rng.integers(self.n_pairs), None
