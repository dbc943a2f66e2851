"""Fixed tying: the policy that leads to one tie vector and stays there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from tiegym import parts
from tiegym.actions import Actions
from tiegym.ties import Ties


class FixedTies:
    """The policy that leads to a tie vector by the shortest way, and stays there.

    Args:
        ties: The tie vector, shape (L,), which holds for each part of a layer that shares weights
            apart; or that of the attention and that of the MLPs, (2L,).
        action_space: Of the environment; says which action protocol it speaks.
        frozen: What is to keep weights that train no more, of the shape of `ties`; None is nothing.
        kinds: Of each unit, where only units of one kind may share weights; it then leads to what
            `tiegym.parts.within_kinds` makes of the ties.
    """

    def __init__(
        self,
        ties: Ties,
        action_space: gymnasium.Space[Any],
        frozen: npt.ArrayLike | None = None,
        kinds: Sequence[str] | None = None,
    ) -> None:
        """Remembers them."""
        self.ties = ties
        self.kinds = kinds
        self.action_space = action_space
        self.frozen = np.zeros(len(ties), np.bool_) if frozen is None else np.asarray(frozen)

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """The action that brings the ties closer, or one that changes nothing."""
        n_units = len(observation["ties"])
        n_layer = n_units // (2 if "part" in observation else 1)
        actions = Actions.seen(self.action_space, observation, n_layer)
        ties = np.tile(self.ties, n_units // len(self.ties))
        if self.kinds is not None:
            ties = parts.within_kinds(ties, self.kinds, n_layer)
        wanted = actions.choices(ties, np.resize(self.frozen, n_units))
        if actions.kind == "joint":
            return actions.choose_all(wanted), None
        unit = actions.cursor(observation)
        if actions.kind == "pair":
            present = actions.choices(observation["ties"], observation.get("frozen"))
            different = np.flatnonzero(wanted != present)
            unit = int(different[0]) if different.size else 0  # where nothing is changed, then
        return actions.choose(unit, int(wanted[unit])), None
