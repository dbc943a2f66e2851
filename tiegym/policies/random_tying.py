"""Random tying: every action uniform over the allowed choices, or all; or one vector, kept."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from tiegym import ties as tie_vectors
from tiegym.ties import Ties


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


class RawRandom:
    """The policy that draws uniformly from all actions of the space, the mask left aside.

    It is what an agent does that knows no mask and has learnt nothing. Layer by layer every action
    from the layer's own number on makes it independent, so that of L layers about half are; pairs
    and joint actions all differ, and are drawn as `RandomTying` draws them.

    Args:
        action_space: Of the environment.
        seed: Of its own generator; the environment's is not touched.
    """

    def __init__(self, action_space: gymnasium.Space[Any], seed: int) -> None:
        """Makes the generator."""
        self.rng = np.random.default_rng((seed, 1))  # a stream apart from the environment's
        if isinstance(action_space, gymnasium.spaces.MultiDiscrete):
            self.n: Any = action_space.nvec
        else:
            self.n = int(action_space.n)  # type: ignore[attr-defined]

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """A random action; the same in deterministic mode, for it has no other."""
        return self.rng.integers(self.n), None


def drawn_ties(n_layer: int, seed: int) -> Ties:
    """The tie vector that is drawn for a seed: uniformly layer by layer, shape (n_layer,).

    The stream is its own: neither the environment's nor that of `RandomTying`.
    """
    return tie_vectors.sample(n_layer, np.random.default_rng((seed, 2)))
