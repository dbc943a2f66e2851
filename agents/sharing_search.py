"""The best sharing of L layers by a cost that is quick to compute.

Of up to 8 layers there are at most 4,140 sharings, and all are compared. Of more layers a descent
goes from random ones to better ones, and the best of its ends is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from agents.sharing_model import n_groups
from tiegym.bench.table import Floats
from tiegym.bench.tree import Ints, sharings
from tiegym.ties import Ties

LISTED = 8
"""The most layers of which all sharings are listed."""

STARTS = 8
"""Of the descent."""

Cost = Callable[[Ints], Floats]
"""What to minimise: sharings as equal numbers for layers that share, (N, L) -> (N,)."""


def best_sharing(cost: Cost, n_layer: int, size: int | None, seed: int = 0) -> Ties:
    """The sharing of the lowest cost, as the tie vector (L,) that is its own roots.

    Of equal ones that were looked at it is the one with the fewest independent layers, and of these
    the first in the alphabet.

    Args:
        cost: See `Cost`.
        n_layer: Layers L.
        size: Independent layers; None takes any number.
        seed: Of the descent's starts.
    """
    if n_layer > LISTED:
        found = descend(cost, n_layer, size, seed)
    else:
        found = sharings(n_layer) if size is None else of_size(n_layer, size)
    ranked = zip(cost(found).round(9), n_groups(found), found.tolist(), strict=True)
    return np.array(min(ranked)[2], dtype=np.int64)


def descend(cost: Cost, n_layer: int, size: int | None, seed: int, starts: int = STARTS) -> Ints:
    """Where coordinate descent ends from each of its random starts, (starts, L).

    One layer after the other is taken out, and put in again wherever and into whichever group the
    cost is lowest, until no layer has a better place. Every second start is sorted, so that its
    groups are runs of neighbours.
    """
    rng = np.random.default_rng(seed)
    # Row j puts the last of L numbers at place j, and keeps the order of the others.
    places = np.stack([np.insert(np.arange(n_layer - 1), j, n_layer - 1) for j in range(n_layer)])
    ends = []
    for start in range(starts):
        drawn = int(rng.integers(n_layer)) + 1 if size is None else size
        groups = draw(n_layer, drawn, 1, rng)[0]
        groups = np.unique(np.sort(groups) if start % 2 else groups, return_inverse=True)[1]
        lowest, improved = cost(groups[None])[0], True
        while improved:
            improved = False
            for layer in range(n_layer):
                labels = np.arange(min(groups.max() + 2, n_layer) if size is None else size)
                others = np.tile(np.delete(groups, layer), (len(labels), 1))
                tried = np.column_stack([others, labels])[:, places].reshape(-1, n_layer)
                costs = cost(tried)
                if size is not None:
                    costs = np.where(n_groups(tried) == size, costs, np.inf)
                best = costs.argmin()
                if costs[best] < lowest - 1e-9:  # more than rounding
                    lowest, improved = costs[best], True
                    groups = np.unique(tried[best], return_inverse=True)[1]
        ends.append(groups)
    return roots(np.stack(ends))


def of_size(n_layer: int, size: int) -> Ints:
    """All sharings of a size, or 2,000 that are drawn where they can't be listed, (N, L)."""
    if n_layer > LISTED:
        return draw(n_layer, size, 2000, np.random.default_rng(0))
    every = sharings(n_layer)
    found: Ints = every[n_groups(every) == size]
    return found


def draw(n_layer: int, size: int, number: int, rng: np.random.Generator) -> Ints:
    """Sharings of a size, drawn uniformly from all of them, (number, L), each as its roots.

    There are S(L, k) of k independent layers, Stirling's number of the second kind. In
    S(L-1, k-1) of them the last layer shares with no other; in the others it joins one of the k
    groups of the layers before it.
    """
    counts = [[1] + [0] * size]  # S(n, k) at [n][k], of Python's integers: they are large
    for _ in range(n_layer):
        last = counts[-1]
        counts.append([0] + [last[k - 1] + k * last[k] for k in range(1, size + 1)])
    groups = np.zeros((number, n_layer), dtype=np.int64)
    left = np.full(number, size)
    for n in range(n_layer, 0, -1):
        alone = [0.0] + [counts[n - 1][k - 1] / max(counts[n][k], 1) for k in range(1, size + 1)]
        alone_now = rng.random(number) < np.array(alone)[left]
        groups[:, n - 1] = np.where(alone_now, left - 1, rng.integers(left))
        left = left - alone_now
    return roots(groups)


def roots(groups: Ints) -> Ints:
    """Sharings (N, L) with the first layer of each group as its number."""
    first: Ints = (groups[:, :, None] == groups[:, None, :]).argmax(axis=2)
    return first
