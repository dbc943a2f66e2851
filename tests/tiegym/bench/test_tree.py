from __future__ import annotations

import numpy as np
import pytest

from tiegym import ties as tie_vectors
from tiegym.bench.tree import grow_tree, sharings


@pytest.mark.parametrize(("n_layer", "n_sweeps", "leaves"), [(2, 3, 8), (3, 2, 36), (4, 2, 576)])
def test_every_sequence_of_decisions_is_a_leaf(n_layer, n_sweeps, leaves):
    tree = grow_tree(n_layer, n_sweeps)
    assert len(tree.leaves) == leaves
    paths = {tuple(tree.path(int(leaf))) for leaf in tree.leaves}
    assert len(paths) == leaves
    for path in list(paths)[:20]:
        ties, node = np.zeros(n_layer, dtype=np.int64), 0
        for step, action in enumerate(path):
            layer = step % (n_layer - 1) + 1
            assert tree.layer[node] == layer
            ties = tie_vectors.set_tie(ties, layer, action)
            node = tree.children[node, action]
            assert (tree.ties[node] == ties).all()


def test_segments_are_shared_by_the_same_roots_after_the_same_training():
    tree = grow_tree(3, 2)
    for a in range(1, len(tree.ties)):
        for b in range(1, a):
            alike = (
                tree.segment[tree.parent[a]] == tree.segment[tree.parent[b]]
                and (tie_vectors.roots(tree.ties[a]) == tie_vectors.roots(tree.ties[b])).all()
                and tree.depth[a] == tree.depth[b]
            )
            assert alike == (tree.segment[a] == tree.segment[b])


def test_raw_actions_from_the_layer_on_are_alike():
    tree = grow_tree(4, 1)
    for node in np.flatnonzero(tree.depth < tree.n_decisions):
        row = tree.children[node, tree.layer[node] :]
        assert (row == row[0]).all()


def test_the_sharings_are_the_set_partitions():
    assert [len(sharings(n)) for n in range(1, 7)] == [1, 2, 5, 15, 52, 203]
    for vector in sharings(5):
        assert (tie_vectors.roots(vector) == vector).all()
    assert len(np.unique(sharings(5), axis=0)) == 52


@pytest.mark.parametrize(("n_layer", "n_sweeps"), [(1, 2), (3, 0), (6, 3)])
def test_trees_that_cannot_be_recorded_are_refused(n_layer, n_sweeps):
    with pytest.raises(ValueError, match=f"a tree of {n_layer} layers and {n_sweeps} sweeps"):
        grow_tree(n_layer, n_sweeps)
