"""Whole episodes as a sequence model learns from them: what it saw, what it did, how they ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiegym.actions import Actions
from tiegym.config import TieConfig
from tiegym.spaces import make_observation_space

Array = npt.NDArray[Any]


class Seen(NamedTuple):
    """Observations as the agent sees them, n of them."""

    choices: Array
    """Of each unit: whose weights it uses, or that it is frozen, integers (n, U)."""
    unit: Array
    """The one that is decided next, integers (n,)."""
    figures: Array
    """Budget, both losses and, if it sees them, the stats of layers, float32 (n, G)."""
    level: Array
    """What a run is judged by, in nats, higher is better: minus loss plus price times share, (n,).
    """


@dataclass(frozen=True)
class Eyes:
    """How observations of layerwise decisions become what the agent sees.

    Attributes:
        actions: Of the environment.
        n_figures: G.
        price: In nats, of training all units independently.
        layer_stats: Whether it sees these.
    """

    actions: Actions
    n_figures: int
    price: float
    layer_stats: bool

    @classmethod
    def of(cls, env: TieConfig, layer_stats: bool, kinds: tuple[str, ...] | None = None) -> Eyes:
        """Those for an environment; a run has a price where its reward has one.

        Args:
            env: Its configuration.
            layer_stats: See the attributes.
            kinds: As of `tiegym.actions.Actions`.
        """
        (stats,) = make_observation_space(env)["layer_stats"].shape or ()
        price = env.param_cost if env.reward in ("ppl_params", "delta_ppl_params") else 0.0
        return cls(Actions.of(env, kinds), 3 + stats * layer_stats, price, layer_stats)

    def see(self, observations: Mapping[str, Any]) -> Seen:
        """What it sees of n observations, or of one.

        Args:
            observations: Arrays with an axis (n, ...) in front, or those of one observation.
        """
        choices = np.atleast_2d(np.asarray(observations["ties"], dtype=np.int64))
        n = len(choices)
        share = (choices == self.actions.layer).mean(axis=1)
        unit = np.reshape(observations["layer"], n).astype(np.int64)
        if "part" in observations:
            unit = unit + self.actions.n_layer * np.reshape(observations["part"], n)
        if "frozen" in observations:
            choices = choices + np.reshape(observations["frozen"], choices.shape)
        loss = np.reshape(observations["loss"], (n, 2))
        figures = [np.reshape(observations["budget"], (n, 1)), loss]
        if self.layer_stats:
            figures.append(np.reshape(observations["layer_stats"], (n, -1)))
        level = -(loss[:, 1].astype(np.float64) + self.price * share)
        return Seen(choices, unit, np.concatenate(figures, axis=1, dtype=np.float32), level)

    def choice(self, actions: npt.ArrayLike, unit: Array) -> Array:
        """The choices that actions of units stand for: from its own layer on, independence."""
        given = np.asarray(actions, dtype=np.int64)
        own = np.minimum(given, self.actions.layer[unit])
        return np.where(given < self.actions.n_layer, own, given)


class Batch(NamedTuple):
    """Episodes side by side, (B, T + 1, ...) each; what is beyond the end of one means nothing."""

    choices: Tensor
    unit: Tensor
    figures: Tensor
    level: Tensor
    actions: Tensor
    """(B, T + 1), of which the last is none."""
    length: Tensor
    """Decisions of each, (B,)."""


class TrajectoryBuffer:
    """The last whole episodes, and those that members are in.

    Args:
        eyes: How observations are seen.
        horizon: Decisions of the longest episode, T.
        capacity: Whole episodes that it keeps.
        members: That decide together.
    """

    def __init__(self, eyes: Eyes, horizon: int, capacity: int, members: int) -> None:
        self.eyes = eyes
        self.capacity = capacity
        self.count = 0
        """Whole episodes so far, dropped ones included."""
        self.best: tuple[float, float] | None = None
        """Where the level rose most: at which it began, and by how much."""
        self._open = [self._empty(horizon) for _ in range(members)]
        self._step = np.zeros(members, np.int64)
        self._whole = [np.zeros((capacity, *a.shape), a.dtype) for a in self._empty(horizon)]
        self._length = np.zeros(capacity, np.int64)

    def _empty(self, horizon: int) -> list[Array]:
        units, n = self.eyes.actions.n_units, horizon + 1
        seen = Seen(
            np.zeros((n, units), np.int16),
            np.zeros(n, np.int16),
            np.zeros((n, self.eyes.n_figures), np.float32),
            np.zeros(n),
        )
        return [*seen, np.zeros(n, np.int16)]

    def abandon(self) -> None:
        """Forgets the episodes that members are in."""
        self._step[:] = 0

    def add(self, before: Seen, actions: Array, after: Seen, ended: Array) -> None:
        """Takes in a decision of each member.

        Args:
            before: What they saw.
            actions: What they did, (n,).
            after: What they saw then: of an episode that ended, its last observation.
            ended: Whether it did, (n,).
        """
        choices = self.eyes.choice(actions, before.unit)
        for member, step in enumerate(self._step):
            into = self._open[member]
            for array, values in zip(into, (*before, choices), strict=True):
                array[step] = values[member]
            if ended[member]:
                for array, values in zip(into, after, strict=False):
                    array[step + 1] = values[member]
                self._keep(into, int(step) + 1)
        self._step = np.where(ended, 0, self._step + 1)

    def put(self, seen: Seen, actions: Array) -> None:
        """Takes in a whole episode.

        Args:
            seen: All of its observations, T + 1 of them.
            actions: All of its decisions, (T,).
        """
        choices = self.eyes.choice(actions, seen.unit[:-1])
        self._keep([*seen, choices], len(choices))

    def _keep(self, arrays: list[Array], length: int) -> None:
        place = self.count % self.capacity
        for whole, array in zip(self._whole, arrays, strict=True):
            whole[place, : min(len(array), length + 1)] = array[: length + 1]
        self._length[place] = length
        self.count += 1
        begin, end = (float(arrays[3][k]) for k in (0, length))
        if self.best is None or end - begin > self.best[1]:
            self.best = begin, end - begin

    def sample(self, size: int, rng: np.random.Generator) -> Batch:
        """Episodes drawn with replacement, as long as the longest of them."""
        places = rng.integers(min(self.count, self.capacity), size=size)
        length = self._length[places]
        arrays = [torch.from_numpy(a[places, : length.max() + 1]) for a in self._whole]
        choices, unit, figures, level, actions = arrays
        return Batch(
            choices.long(), unit.long(), figures, level, actions.long(), torch.from_numpy(length)
        )
