"""Splitting, at intervals, the group of layers whose gradients disagree most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tiegym import parts
from tiegym.actions import Actions
from tiegym.config import TieConfig
from tiegym.ties import Ties


class GradientSplit:
    """The policy that splits by agreement of gradients; for action="joint".

    It needs the feature agreement (`tiegym.features`). All that it goes by is in the observation.

    Args:
        config: Of the environment.
        every: Environment steps between two splits, and before the first.
        until: Groups (of layers, or of both kinds of parts together) at the end.
    """

    def __init__(self, config: TieConfig, every: int, until: int) -> None:
        """Remembers what it has to know of the environment."""
        self.config = config
        self.every = every
        self.until = until

    def predict(
        self,
        observation: dict[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """The ties as they are; where a split is due, with one group in two."""
        config = self.config
        ties = np.asarray(observation["ties"], dtype=np.int64)
        # The last step can be shorter, but nothing is decided after it.
        step = round(float(observation["budget"][0]) * config.max_iters) // config.iters_per_step
        due = step > 0 and step % self.every == 0
        if due and parts.n_independent(ties, config.n_layer) < self.until:
            names = config.feature_names
            stats = np.asarray(observation["layer_stats"]).reshape(-1, len(names))
            ties = split(ties, stats[:, names.index("agreement")], config.n_layer)
        return Actions.of(config).choose_all(ties), None


def split(ties: Ties, agreement: npt.ArrayLike, n_layer: int) -> Ties:
    """Ties with one group more: that of the lowest mean agreement, in two; the same if all are one.

    The first of several lowest is taken. Its layers, in order, are cut in two where the variance
    of agreement between both sides is largest, n m (a - b)^2 for n and m layers of means a and b:
    where a regression tree would cut. Where that is the same everywhere, in the middle; of an odd
    number of layers the first side gets one more. The second side is tied to its first layer,
    which becomes independent.

    Args:
        ties: Of all units, (P L,).
        agreement: Of each unit, (P L,); see `tiegym.features`.
        n_layer: Layers L.

    Examples:
        >>> split(np.array([0, 0, 2, 2, 2]), [0.9, 0.9, 0.8, 0.2, 0.3], 5).tolist()
        [0, 0, 2, 3, 3]
    """
    agreement = np.asarray(agreement, dtype=np.float64)
    roots = parts.roots(ties, n_layer)
    groups = [np.flatnonzero(roots == root) for root in np.unique(roots)]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return ties.copy()
    group = min(groups, key=lambda members: float(agreement[members].mean()))
    leaving = group[_cut(agreement[group]) :]
    # Each unit tied to its root, so that no layer follows another into its new group.
    result: Ties = roots % n_layer
    result[leaving] = leaving[0] % n_layer
    return result


def _cut(values: Sequence[float] | npt.NDArray[np.float64]) -> int:
    """How many of some values, in order, lie before the best cut; at least 1 and not all."""
    n = len(values)
    cuts = sorted(range(1, n), key=lambda k: (abs(k - n / 2), -k))  # the middle first

    def between(k: int) -> float:
        return float(k * (n - k) * (np.mean(values[:k]) - np.mean(values[k:])) ** 2)

    return max(cuts, key=between)
