"""What actions mean: the choices of units, how an action names them, and whose turn it is.

The choice of a unit of layer i is a number: a < i ties it to layer a, i gives it weights of its
own, and i + 1 (with `choices="tie+freeze"`) freezes them: it keeps weights of its own that train
no more. What a unit is, is in `tiegym.parts`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tiegym import parts
from tiegym import ties as tie_vectors
from tiegym.config import Action, TieConfig
from tiegym.parts import PARTS
from tiegym.ties import Ties

Frozen = npt.NDArray[np.bool_]
"""Which units are frozen, (P L,)."""


@dataclass(frozen=True)
class Actions:
    """The actions of a configuration.

    Attributes:
        kind: "layerwise", "pair" or "joint".
        n_layer: Layers L.
        n_parts: Parts P of a layer.
        freeze: Whether a unit may be frozen.
        kinds: Of each unit, where only units of one kind may share weights: what names one of
            another kind then means what `tiegym.parts.within_kinds` makes of it.
    """

    kind: Action
    n_layer: int
    n_parts: int = 1
    freeze: bool = False
    kinds: tuple[str, ...] | None = None

    @classmethod
    def of(cls, config: TieConfig, kinds: Sequence[str] | None = None) -> Actions:
        """Those of an environment's configuration; kinds as in the attributes."""
        n_parts = len(PARTS[config.tie_parts])
        own = None if kinds is None else tuple(kinds)
        return cls(config.action, config.n_layer, n_parts, config.choices == "tie+freeze", own)

    @classmethod
    def seen(
        cls, space: spaces.Space[Any], observation: Mapping[str, Any], n_layer: int
    ) -> Actions:
        """Those of an environment of which a policy knows the spaces and the depth.

        Args:
            space: The action space.
            observation: One of its observations, or its observation space's entries: what is in
                it says whether there are parts, and whether they can be frozen.
            n_layer: Layers L.
        """
        n_parts, freeze = 2 if "part" in observation else 1, "frozen" in observation
        layerwise = cls("layerwise", n_layer, n_parts, freeze)
        if space == layerwise.space():
            return layerwise
        kind: Action = "joint" if isinstance(space, spaces.MultiDiscrete) else "pair"
        return cls(kind, n_layer, n_parts, freeze)

    @property
    def n_units(self) -> int:
        """Units: L, or with two parts 2 L."""
        return self.n_parts * self.n_layer

    @cached_property
    def layer(self) -> Ties:
        """The layer of each unit, (P L,)."""
        return np.arange(self.n_units) % self.n_layer

    @property
    def n_choices(self) -> Ties:
        """How many choices each unit has, (P L,)."""
        return self.layer + 1 + self.freeze

    @cached_property
    def turns(self) -> list[int]:
        """The units that have a choice, in the order in which the cursor of "layerwise" goes.

        Layer by layer, first the attention and then the MLP. Layer 0 has a choice only where it
        can be frozen.
        """
        first = 0 if self.freeze or self.n_layer == 1 else 1
        each = range(self.n_parts)
        return [part * self.n_layer + i for i in range(first, self.n_layer) for part in each]

    @property
    def _pairs(self) -> int:
        return self.n_layer * (self.n_layer + 1) // 2

    @property
    def _pairs_of_part(self) -> int:
        """Actions of "pair" for each part: the pairs, then one for each layer that freezes it."""
        return self._pairs + self.freeze * self.n_layer

    def space(self) -> spaces.Space[Any]:
        """The action space; see `tiegym.env.TieEnv`."""
        if self.kind == "joint":
            return spaces.MultiDiscrete(self.n_choices[sorted(self.turns)])
        if self.kind == "layerwise":
            return spaces.Discrete(self.n_layer + self.freeze)
        return spaces.Discrete(self.n_parts * self._pairs_of_part)

    def initial_ties(self, config: TieConfig) -> Ties:
        """The ties that an episode begins with, (P L,); a pattern's as far as kinds allow.

        Raises:
            ValueError: If a tie vector ties layers of two kinds.
        """
        ties = parts.parse(config.initial_ties, self.n_layer, self.n_parts)
        if self.kinds is None:
            return ties
        within = parts.within_kinds(ties, self.kinds, self.n_layer)
        if not isinstance(config.initial_ties, str) and (within != ties).any():
            raise ValueError(
                f"initial_ties={config.initial_ties} ties layers of two kinds, but only those of "
                f"one can share weights; the layers are {', '.join(self.kinds[: self.n_layer])}. "
                f"Nearest is "
                f"{tuple(within.tolist())}"
            )
        return within

    def first(self) -> int:
        """The unit under the cursor after reset; 0 where actions name the unit themselves."""
        return self.turns[0] if self.kind == "layerwise" else 0

    def following(self, unit: int) -> int:
        """The unit under the cursor after this one."""
        if self.kind != "layerwise":
            return 0
        return self.turns[(self.turns.index(unit) + 1) % len(self.turns)]

    def after(self, action: Any, choices: Ties, unit: int) -> Ties:
        """The choices of all units that an action asks for, (P L,).

        Args:
            action: Of the action space.
            choices: Those before it, (P L,).
            unit: That under the cursor.
        """
        result = choices.copy()
        if self.kind == "joint":
            result[sorted(self.turns)] = action
            return self._within_kinds(result)
        action = int(action)
        if self.kind == "pair":
            part, index = divmod(action, self._pairs_of_part)
            layer, choice = index - self._pairs, index - self._pairs + 1
            if index < self._pairs:
                layer, choice = tie_vectors.pair_from_index(index)
            result[part * self.n_layer + layer] = choice
        else:
            layer = int(self.layer[unit])
            result[unit] = layer + 1 if action == self.n_layer else min(action, layer)
        return self._within_kinds(result)

    def _within_kinds(self, choices: Ties) -> Ties:
        """What is meant where layers of two kinds can't share weights."""
        if self.kinds is None:
            return choices
        ties, frozen = self.ties_of(choices)
        return self.choices(parts.within_kinds(ties, self.kinds, self.n_layer), frozen)

    def _meant(self, unit: int, choices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which choices of a unit name one of its own kind, or none."""
        if self.kinds is None:
            return np.ones(len(choices), dtype=np.bool_)
        layer = int(self.layer[unit])
        kinds = self.kinds[unit - layer : unit + 1]  # of its part, up to itself
        others = [choice < layer and kinds[choice] != kinds[layer] for choice in choices]
        return ~np.array(others, dtype=np.bool_)

    def different(self, unit: int) -> npt.NDArray[np.int64]:
        """The choices of a unit that differ from each other: none names one of another kind."""
        choices = np.arange(self.n_choices[unit])
        return choices[self._meant(unit, choices)]

    def draw(self, rng: np.random.Generator) -> Ties:
        """Choices of all units, (P L,), each uniform over those that differ."""
        of_all = [self.different(unit) for unit in range(self.n_units)]
        places = rng.integers(0, [len(each) for each in of_all])
        return np.array([each[k] for each, k in zip(of_all, places, strict=True)])

    def choose(self, unit: int, choice: int) -> np.int64:
        """The action by which a unit makes a choice; of "layerwise" and "pair".

        Args:
            unit: For "layerwise", that under the cursor.
            choice: See the module's docstring.
        """
        part, layer = divmod(unit, self.n_layer)
        frozen = choice > layer
        if self.kind == "layerwise":
            return np.int64(self.n_layer if frozen else choice)
        index = self._pairs + layer if frozen else tie_vectors.pair_index(layer, choice)
        return np.int64(part * self._pairs_of_part + index)

    def choose_all(self, choices: Ties) -> Ties:
        """The action of "joint" that leads to these choices of all units, (P L,)."""
        return choices[sorted(self.turns)]

    def mask(self, unit: int) -> npt.NDArray[np.bool_]:
        """The actions that differ from each other, bool.

        All of "pair" and "joint" do, unless layers are of two kinds: those that name one of
        another kind are no such actions. For "joint" it has an entry for each choice of each
        layer, as mask-aware agents want it.
        """
        if self.kind == "layerwise":
            layer, actions = self.layer[unit], np.arange(self.n_layer + self.freeze)
            mask: npt.NDArray[np.bool_] = (actions <= layer) | (actions == self.n_layer)
            return mask & self._meant(unit, actions)
        if self.kind == "joint":
            return np.concatenate(
                [self._meant(u, np.arange(self.n_choices[u])) for u in sorted(self.turns)]
            )
        entries, freezing = [], np.ones(self.freeze * self.n_layer, dtype=np.bool_)
        for part in range(self.n_parts):
            units = range(part * self.n_layer, (part + 1) * self.n_layer)
            entries += [self._meant(u, np.arange(self.layer[u] + 1)) for u in units] + [freezing]
        return np.concatenate(entries)

    def cursor(self, observation: Mapping[str, Any]) -> int:
        """The unit under the cursor of an observation."""
        return int(observation.get("part", 0)) * self.n_layer + int(observation["layer"])

    def choices(self, ties: Ties, frozen: Frozen | None = None) -> Ties:
        """The choices that ties and what is frozen stand for, (P L,)."""
        return ties.astype(np.int64) + (0 if frozen is None else np.asarray(frozen, np.int64))

    def ties_of(self, choices: Ties) -> tuple[Ties, Frozen]:
        """The ties that choices stand for, (P L,), and what is frozen, (P L,)."""
        return np.minimum(choices, self.layer), choices > self.layer
