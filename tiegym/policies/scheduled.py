"""Tying schedules: ties that change at iterations which are known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from tiegym import ties as tie_vectors
from tiegym.actions import Actions
from tiegym.ties import Ties

Plan: TypeAlias = list[tuple[int, Ties]]
"""Iterations, in order from 0 on, and the tie vector (L,) that holds from each of them, for each
part of a layer that shares weights apart; or the choices (L,), some of them to be frozen (see
`tiegym.actions`)."""


class ScheduledTies:
    """The policy that follows a plan; for action="joint".

    Args:
        plan: Which tie vector holds from which iteration on.
        max_iters: Iterations in an episode.
    """

    def __init__(self, plan: Plan, max_iters: int) -> None:
        """Remembers both."""
        self.plan = plan
        self.max_iters = max_iters

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """All ties as planned for the iterations that follow."""
        iteration = round(float(observation["budget"][0]) * self.max_iters)
        ties = [ties for start, ties in self.plan if start <= iteration][-1]
        n_parts = 2 if "part" in observation else 1
        actions = Actions("joint", len(ties), n_parts, "frozen" in observation)
        return actions.choose_all(np.tile(ties, n_parts)), None


def share_then_unshare(n_layer: int, max_iters: int, at: float) -> Plan:
    """All layers tied, then all independent.

    Args:
        n_layer: Layers L.
        max_iters: Iterations in an episode.
        at: Share of the iterations at which they are untied.
    """
    return [
        (0, tie_vectors.pattern("tied", n_layer)),
        (round(at * max_iters), tie_vectors.pattern("independent", n_layer)),
    ]


def unshare_then_share(n_layer: int, max_iters: int, at: float) -> Plan:
    """All layers independent, then all tied to the first one; arguments as above."""
    first, second = share_then_unshare(n_layer, max_iters, at)
    return [(first[0], second[1]), (second[0], first[1])]


def progressive_split(n_layer: int, max_iters: int, by: float, until: int | None = None) -> Plan:
    """The largest group of neighbouring layers is split in halves at even intervals.

    The first of several largest groups is taken; of an odd number of layers the first half gets
    one more. The second half is tied to its first layer, which becomes independent.

    Args:
        n_layer: Layers L.
        max_iters: Iterations in an episode.
        by: Share of the iterations at which the last split is made.
        until: Groups at the end; None is n_layer.
    """
    splits = (n_layer if until is None else until) - 1
    groups = [range(n_layer)]
    plan = [(0, _tied_within(groups))]
    for k in range(splits):
        largest = max(range(len(groups)), key=lambda g: len(groups[g]))
        group = groups[largest]
        middle = -(-len(group) // 2)
        groups[largest : largest + 1] = [group[:middle], group[middle:]]
        plan.append((round((k + 1) / splits * by * max_iters), _tied_within(groups)))
    return plan


def _tied_within(groups: Sequence[range]) -> Ties:
    return np.concatenate([np.full(len(group), group.start) for group in groups])
