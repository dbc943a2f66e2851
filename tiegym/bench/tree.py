"""The tree of all layerwise decisions of an episode, and which of them share training.

A *node* is a sequence of decisions: the root before the first, the leaves after the last. A
*segment* is the training between two decisions. What a transformer does depends on the roots of
its tie vector alone, so nodes that come from the same segment with the same roots share one
segment: ties 0,0,0 and 0,0,1 train alike, though they may part later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tiegym import ties as tie_vectors

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Tree:
    """All nodes, breadth first: those of a depth stand together, the root is node 0.

    Attributes:
        n_layer: Layers L.
        n_sweeps: Sweeps; an episode has `depth` = (L-1) n_sweeps decisions.
        ties: The tie vector of each node, (N, L).
        layer: The cursor at each node, as an observation shows it, (N,).
        depth: Decisions taken, (N,).
        parent: The node before, -1 at the root, (N,).
        children: The node after each action, (N, L); -1 behind the leaves. Actions from the
            cursor's layer on all make it independent, as in TieEnv.
        segment: The training that leads to each node, -1 at the root, (N,).
        n_segments: Segments S, numbered from 0.
    """

    n_layer: int
    n_sweeps: int
    ties: Ints
    layer: Ints
    depth: Ints
    parent: Ints
    children: Ints
    segment: Ints
    n_segments: int

    @property
    def n_decisions(self) -> int:
        """Decisions of an episode."""
        return (self.n_layer - 1) * self.n_sweeps

    @property
    def leaves(self) -> Ints:
        """The nodes at the end."""
        return np.flatnonzero(self.depth == self.n_decisions)

    def at(self, depth: int) -> Ints:
        """The nodes after so many decisions."""
        return np.flatnonzero(self.depth == depth)

    def path(self, node: int) -> list[int]:
        """The actions that lead from the root to a node, each the target itself (a <= layer)."""
        actions: list[int] = []
        while node > 0:
            parent = int(self.parent[node])
            actions.append(int(self.ties[node, self.layer[parent]]))
            node = parent
        return actions[::-1]


@lru_cache(maxsize=8)
def grow_tree(n_layer: int, n_sweeps: int, initial_ties: tuple[int, ...] | None = None) -> Tree:
    """The tree of an episode that begins with these ties; None is all tied.

    Raises:
        ValueError: If a number is too small, or there would be over a million leaves.

    Examples:
        >>> tree = grow_tree(4, 2)
        >>> len(tree.leaves), len(tree.ties), tree.n_segments
        (576, 801, 470)
    """
    if n_layer < 2 or n_sweeps < 1:
        raise ValueError(
            f"a tree of {n_layer} layers and {n_sweeps} sweeps: give at least 2 layers and 1 sweep"
        )
    if math.lgamma(n_layer + 1) * n_sweeps > math.log(10**6):
        raise ValueError(
            f"a tree of {n_layer} layers and {n_sweeps} sweeps has over a million leaves: take "
            "fewer"
        )
    start = (0,) * n_layer if initial_ties is None else initial_ties
    ties = [tie_vectors.validate(start, n_layer)]
    layer, depth, parent, segment = [1], [0], [-1], [-1]  # a column each, node by node
    children: list[list[int]] = []
    segments: dict[tuple[int, ...], int] = {}
    node = 0
    while node < len(ties):  # grows while it is walked: breadth first
        if depth[node] == (n_layer - 1) * n_sweeps:
            children.append([-1] * n_layer)
            node += 1
            continue
        row: list[int] = []
        for target in range(layer[node] + 1):
            after = tie_vectors.set_tie(ties[node], layer[node], target)
            key = (segment[node], *tie_vectors.roots(after).tolist())
            row.append(len(ties))
            ties.append(after)
            layer.append(layer[node] % (n_layer - 1) + 1)
            depth.append(depth[node] + 1)
            parent.append(node)
            segment.append(segments.setdefault(key, len(segments)))
        children.append(row + [row[-1]] * (n_layer - len(row)))
        node += 1
    return Tree(
        n_layer,
        n_sweeps,
        ties=_shared(ties),
        layer=_shared(layer),
        depth=_shared(depth),
        parent=_shared(parent),
        children=_shared(children),
        segment=_shared(segment),
        n_segments=len(segments),
    )


def _shared(values: Sequence[Any]) -> Ints:
    """An array that all who ask for the tree have, and none may write."""
    array = np.array(values)
    array.setflags(write=False)
    return array


def sharings(n_layer: int) -> Ints:
    """All sharings of L layers, (Bell(L), L): each as the one tie vector that is its own roots.

    Ordered by the number of independent layers, then by the vector.

    Examples:
        >>> sharings(3).tolist()
        [[0, 0, 0], [0, 0, 2], [0, 1, 0], [0, 1, 1], [0, 1, 2]]
    """
    vectors: list[list[int]] = [[0]]
    for layer in range(1, n_layer):
        vectors = [[*vector, target] for vector in vectors for target in sorted({*vector, layer})]
    vectors.sort(key=lambda v: (len(set(v)), v))
    return np.array(vectors, dtype=np.int64)
