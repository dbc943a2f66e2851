"""The ties of layers whose parts share weights apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiegym import parts, ties


def vectors(n_parts):
    def of(n_layer):
        one = st.tuples(*(st.integers(0, i) for i in range(n_layer)))
        return st.lists(one, min_size=n_parts, max_size=n_parts)

    return st.integers(1, 8).flatmap(of)


@given(vectors(2))
def test_each_part_is_a_forest_of_its_own(both):
    n_layer = len(both[0])
    joined = parts.validate([*both[0], *both[1]], n_layer, 2)
    roots = parts.roots(joined, n_layer)
    assert roots[:n_layer].tolist() == ties.roots(np.array(both[0])).tolist()
    assert (roots[n_layer:] - n_layer).tolist() == ties.roots(np.array(both[1])).tolist()
    counts = [ties.n_independent(np.array(vector)) for vector in both]
    assert parts.n_independent(joined, n_layer) == sum(counts)
    assert parts.trained(joined, [False] * 2 * n_layer, n_layer) == tuple(counts)
    assert ties.validate(parts.forest(joined, n_layer)).tolist()  # a tie vector of all units


@given(vectors(1))
def test_of_one_part_everything_is_as_for_layers(one):
    vector = np.array(one[0])
    n_layer = len(vector)
    assert parts.validate(vector, n_layer).tolist() == vector.tolist()
    assert parts.forest(vector, n_layer).tolist() == vector.tolist()
    assert parts.roots(vector, n_layer).tolist() == ties.roots(vector).tolist()
    n = ties.n_independent(vector)
    assert parts.n_independent(vector, n_layer) == n
    assert parts.trained(vector, [False] * n_layer, n_layer) == (n, n)


def test_frozen_units_do_not_train():
    joined = np.array([0, 1, 1, 0, 0, 2])
    assert parts.trained(joined, [False, True, False, False, False, True], 3) == (1, 1)
    assert parts.trained(joined[:3], [True, False, False], 3) == (1, 1)


def test_a_pattern_holds_for_both_parts_and_a_vector_names_all():
    assert parts.parse("sequence:2", 4, 2).tolist() == [0, 0, 2, 2, 0, 0, 2, 2]
    assert parts.parse("0, 1, 0, 0", 2, 2).tolist() == [0, 1, 0, 0]
    assert parts.parse((0, 1, 0, 0), 2, 2).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([0, 0], "give 4, those of the attention parts and then those of the MLP parts"),
        ("0,0", "has 2 entries, but there are 2 layers of 2 parts"),
        ([0, 0, 0, 2], r"ties=\[0, 2\] is impossible: layer 1 points at 2"),
        ([0, 1, 2, 0], r"ties=\[2, 0\] is impossible: layer 0 points at 2"),
        ("nonsense", "unknown tying pattern 'nonsense'"),
        ([0.0, 0.0, 0.0, 0.0], "must be a non-empty sequence of integers"),
    ],
)
def test_what_are_no_ties_of_two_parts_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        parts.parse(wrong, 2, 2)


def test_names_tell_layers_and_parts_and_keep_the_order_of_a_forward_pass():
    names = parts.unit_names(6, 3)
    order = parts.by_layer(range(6), 3)
    assert [names[unit] for unit in order] == [
        *("0_attention", "0_mlp", "1_attention", "1_mlp", "2_attention", "2_mlp")
    ]


def test_a_record_is_of_two_parts_if_it_has_twice_as_many_ties_as_layers():
    assert [parts.depth(n, 4) for n in (4, 8, 5)] == [4, 4, 5]
    assert parts.depth(8, None) == 8


def test_drawn_ties_are_uniform_in_each_part():
    rng = np.random.default_rng(0)
    drawn = np.array([parts.sample(3, 2, rng) for _ in range(3000)])
    for unit in (2, 5):
        shares = np.bincount(drawn[:, unit], minlength=3) / len(drawn)
        assert shares == pytest.approx([1 / 3] * 3, abs=0.03)
    assert drawn[:, [0, 3]].max() == 0
