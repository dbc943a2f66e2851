"""Random tying: every action uniform over the allowed choices, or all; or one vector, kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from tiegym import parts
from tiegym.actions import Actions
from tiegym.ties import Ties


class RandomTying:
    """The policy that draws uniformly from the choices that differ from each other.

    Args:
        action_space: Of the environment; says which action protocol it speaks.
        n_layer: Layers L.
        seed: Of its own generator; the environment's is not touched.
        kinds: Of each unit, where only units of one kind may share weights; see
            `tiegym.actions.Actions`.
    """

    def __init__(
        self,
        action_space: gymnasium.Space[Any],
        n_layer: int,
        seed: int,
        kinds: tuple[str, ...] | None = None,
    ) -> None:
        """Makes the generator."""
        self.rng = np.random.default_rng((seed, 1))  # a stream apart from the environment's
        self.n_layer = n_layer
        self.action_space = action_space
        self.kinds = kinds

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """A random action; the same in deterministic mode, for it has no other."""
        actions = Actions.seen(self.action_space, observation, self.n_layer)
        actions = dataclasses.replace(actions, kinds=self.kinds)
        if actions.kind == "pair":
            different = np.flatnonzero(actions.mask(0))
            return different[self.rng.integers(len(different))], None
        if actions.kind == "joint":
            return actions.choose_all(actions.draw(self.rng)), None
        unit = actions.cursor(observation)
        choices = actions.different(unit)
        return actions.choose(unit, int(choices[self.rng.integers(len(choices))])), None


class RawRandom:
    """The policy that draws uniformly from all actions of the space, the mask left aside.

    It is what an agent does that knows no mask and has learnt nothing. Layer by layer every action
    from the layer's own number on makes it independent, so that of L layers about half are; pairs
    and joint actions all differ, and are drawn as `RandomTying` draws them; but where layers are
    of two kinds, ties to another kind are drawn, too.

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


def drawn_ties(
    n_layer: int,
    seed: int,
    n_parts: int = 1,
    size: int | None = None,
    kinds: Sequence[str] | None = None,
) -> Ties:
    """The ties that are drawn for a seed: uniformly layer by layer, shape (n_parts * n_layer,).

    The stream is its own: neither the environment's nor that of `RandomTying`.

    Args:
        n_layer: Layers L.
        seed: Of the run.
        n_parts: Parts of a layer; each is drawn for itself.
        size: Independent layers of each part; None are any.
        kinds: Of each unit, where only units of one kind may share weights; without a size.

    Raises:
        ValueError: If there can't be so many, or a size is given with kinds.
    """
    rng = np.random.default_rng((seed, 2))
    if kinds is None:
        return parts.sample(n_layer, n_parts, rng, size)
    if size is not None:
        raise ValueError(
            f"size={size}: the layers are of several kinds, of which only those of one share "
            f"weights ({', '.join(kinds[:n_layer])}): draw vectors of any size, without it"
        )
    actions = Actions("joint", n_layer, n_parts, kinds=tuple(kinds))
    choices = map(actions.different, range(actions.n_units))
    return np.array([each[rng.integers(len(each))] for each in choices], dtype=np.int64)
