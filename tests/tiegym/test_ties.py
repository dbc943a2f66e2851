"""Tie vectors: what is a valid one, roots, patterns, actions."""

from collections import Counter
from itertools import product
from math import factorial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from tiegym import ties


@st.composite
def tie_vectors(draw, min_layers=1, max_layers=12):
    n = draw(st.integers(min_layers, max_layers))
    return np.array([draw(st.integers(0, i)) for i in range(n)])


@given(tie_vectors())
def test_roots_are_independent_and_reached_by_following_pointers(vector):
    for layer, root in enumerate(ties.roots(vector)):
        assert vector[root] == root
        while vector[layer] != layer:
            layer = vector[layer]
        assert layer == root


@given(tie_vectors())
def test_independent_layers_are_exactly_the_distinct_roots(vector):
    assert ties.independent_layers(vector) == sorted(set(ties.roots(vector).tolist()))
    assert ties.n_independent(vector) == len(set(ties.roots(vector).tolist()))


@given(tie_vectors())
def test_a_vector_in_text_parses_to_itself(vector):
    text = ",".join(map(str, vector))
    assert ties.parse(text, len(vector)).tolist() == vector.tolist()


def test_validate_returns_a_copy():
    given_ = np.array([0, 0, 2])
    ties.validate(given_)[1] = 1
    assert given_.tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([1, 0], "layer 0 points at 1"),
        ([0, 2], "layer 1 points at 2"),
        ([0, -1], "layer 1 points at -1"),
        ([], "non-empty"),
        ([0.0, 0.5], "integers"),
        ([[0], [1]], "non-empty sequence"),
        ([0, [1, 2]], "not a sequence"),
        ([0, 1, 2], "3 entries, but there are 2"),
    ],
)
def test_an_impossible_vector_is_refused_with_the_reason(wrong, message):
    with pytest.raises(ValueError, match=message):
        ties.validate(wrong, 2 if len(wrong) == 3 else None)


@pytest.mark.parametrize(
    ("name", "n_layer", "vector"),
    [
        ("independent", 4, [0, 1, 2, 3]),
        ("tied", 4, [0, 0, 0, 0]),
        ("sequence:3", 6, [0, 0, 2, 2, 4, 4]),
        ("sequence:2", 5, [0, 0, 0, 3, 3]),
        ("cycle:2", 5, [0, 1, 0, 1, 0]),
        ("cycle-rev:3", 9, [0, 1, 2, 0, 1, 2, 2, 1, 0]),
        ("cycle-rev:3", 6, [0, 1, 2, 2, 1, 0]),
        ("cycle-rev:4", 6, [0, 1, 2, 3, 3, 2]),
        ("sandwich", 5, [0, 1, 1, 1, 4]),
        ("middle-cycle:2", 6, [0, 1, 2, 1, 2, 5]),
    ],
)
def test_a_named_pattern_is_the_published_one(name, n_layer, vector):
    assert ties.pattern(name, n_layer).tolist() == vector


@pytest.mark.parametrize("name", ["cycle", "sequence", "cycle-rev", "middle-cycle"])
def test_every_counted_pattern_is_a_tie_vector_wherever_it_is_allowed(name):
    for n_layer in range(3, 14):
        most = n_layer - 2 if name == "middle-cycle" else n_layer
        for m in range(1, most + 1):
            ties.validate(ties.pattern(f"{name}:{m}", n_layer), n_layer)
        with pytest.raises(ValueError, match=f"from 1 to {most}"):
            ties.pattern(f"{name}:{most + 1}", n_layer)


@pytest.mark.parametrize(
    "name", ["cycle", "cycle:0", "cycle:x", "cycle:-1", "spiral", "", "tied:2"]
)
def test_an_unknown_pattern_is_refused_with_what_is_allowed(name):
    with pytest.raises(ValueError, match=r"unknown tying pattern|needs a number"):
        ties.parse(name, 6)


def test_the_null_model_is_the_mean_over_all_tie_vectors():
    def all_vectors(n):
        if n == 0:
            return [[]]
        return [[*head, last] for head in all_vectors(n - 1) for last in range(n)]

    vectors = all_vectors(5)
    assert len(vectors) == factorial(5)
    mean = np.mean([ties.n_independent(np.array(v)) for v in vectors])
    assert ties.expected_independent(5) == pytest.approx(mean)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_random_vectors_of_a_size_are_uniform_over_those_that_have_it(size):
    rng = np.random.default_rng(0)
    every = [(0, *rest) for rest in product(range(2), range(3), range(4))]
    of_size = {v for v in every if ties.n_independent(np.array(v)) == size}
    drawn = Counter(tuple(ties.sample(4, rng, size).tolist()) for _ in range(2400))
    assert drawn.keys() == of_size
    assert chisquare(list(drawn.values())).pvalue > 1e-3


def test_a_random_vector_of_a_deep_transformer_has_the_size_that_is_asked_for():
    rng = np.random.default_rng(0)
    for size in (1, 2, 24, 47, 48):
        drawn = ties.validate(ties.sample(48, rng, size), 48)
        assert ties.n_independent(drawn) == size


@pytest.mark.parametrize("size", [0, -1, 5])
def test_a_size_that_no_vector_has_is_refused(size):
    with pytest.raises(ValueError, match=rf"size={size} must be from 1 to n_layer=4"):
        ties.sample(4, np.random.default_rng(0), size)


def test_random_vectors_are_uniform_over_each_layers_choices():
    rng = np.random.default_rng(0)
    drawn = np.array([ties.sample(4, rng) for _ in range(4000)])
    for layer in range(4):
        share = np.bincount(drawn[:, layer], minlength=4) / len(drawn)
        expected = ties.mask(layer, 4) / (layer + 1)
        assert share == pytest.approx(expected, abs=0.04)


@given(st.integers(0, 5000))
def test_pair_index_and_its_inverse_agree(index):
    layer, target = ties.pair_from_index(index)
    assert 0 <= target <= layer
    assert ties.pair_index(layer, target) == index


def test_set_tie_makes_any_target_from_the_layer_on_independent():
    vector = np.zeros(4, dtype=np.int64)
    assert (
        ties.set_tie(vector, 2, 2).tolist() == ties.set_tie(vector, 2, 3).tolist() == [0, 0, 2, 0]
    )
    assert ties.set_tie(vector, 2, 1).tolist() == [0, 0, 1, 0]
    assert vector.tolist() == [0, 0, 0, 0]


def test_a_tie_to_another_kind_goes_to_the_nearest_layer_of_the_own_one():
    kinds = ["a", "b", "b", "a", "a", "b", "a"]
    given = np.array([0, 0, 0, 1, 2, 4, 5])
    # layer 2's nearest is 1; 3's only one is 0; of 0 and 3, layer 3 is nearer to 2; and so on.
    assert ties.within_kinds(given, kinds).tolist() == [0, 1, 1, 0, 3, 2, 4]
    same = ties.within_kinds(ties.within_kinds(given, kinds), kinds)
    assert same.tolist() == ties.within_kinds(given, kinds).tolist()
