"""RandomTying: uniform over the choices that differ."""

import gymnasium
import numpy as np
import pytest

from tiegym import ties
from tiegym.policies.random_tying import RandomTying, drawn_ties


def test_random_tying_is_uniform_over_the_choices_that_differ():
    space = gymnasium.spaces.Discrete(4)
    policy = RandomTying(space, 4, seed=0)
    for layer in (1, 2, 3):
        drawn = [int(policy.predict({"layer": layer})[0]) for _ in range(3000)]
        share = np.bincount(drawn, minlength=4) / 3000
        assert share == pytest.approx(ties.mask(layer, 4) / (layer + 1), abs=0.03)


def test_random_joint_tying_leaves_as_many_independent_layers_as_the_null_model():
    policy = RandomTying(gymnasium.spaces.MultiDiscrete(np.arange(2, 7)), 6, seed=0)
    drawn = [np.array([0, *policy.predict({})[0]]) for _ in range(3000)]
    mean = np.mean([ties.n_independent(vector) for vector in drawn])
    assert mean == pytest.approx(ties.expected_independent(6), abs=0.07)


KINDS = ("s", "f", "s", "s", "s", "f")


def allowed(layer):
    """The choices of a layer that name one of its kind, or itself."""
    return [choice for choice in range(layer + 1) if KINDS[choice] == KINDS[layer]]


def test_of_layers_of_two_kinds_those_of_ones_own_are_as_likely():
    policy = RandomTying(gymnasium.spaces.Discrete(6), 6, 0, KINDS)
    for layer in (1, 4, 5):
        drawn = [int(policy.predict({"layer": layer})[0]) for _ in range(3000)]
        share = np.bincount(drawn, minlength=6) / 3000
        expected = np.isin(np.arange(6), allowed(layer)) / len(allowed(layer))
        assert share == pytest.approx(expected, abs=0.03)
    policy = RandomTying(gymnasium.spaces.MultiDiscrete(np.arange(2, 7)), 6, 0, KINDS)
    vectors = np.array([[0, *policy.predict({})[0]] for _ in range(3000)])
    kept = np.array([drawn_ties(6, seed, kinds=KINDS) for seed in range(3000)])
    for layer in range(6):
        expected = np.isin(np.arange(6), allowed(layer)) / len(allowed(layer))
        for drawn in (vectors, kept):
            share = np.bincount(drawn[:, layer], minlength=6) / 3000
            assert share == pytest.approx(expected, abs=0.03)
    pairs = RandomTying(gymnasium.spaces.Discrete(21), 6, 0, KINDS)
    drawn = {ties.pair_from_index(int(pairs.predict({})[0])) for _ in range(2000)}
    assert drawn == {(layer, choice) for layer in range(6) for choice in allowed(layer)}


def test_without_kinds_the_same_is_drawn_as_ever():
    rng = np.random.default_rng((7, 1))
    policy = RandomTying(gymnasium.spaces.MultiDiscrete(np.arange(2, 7)), 6, seed=7)
    for _ in range(5):
        np.testing.assert_array_equal(policy.predict({})[0], rng.integers(0, np.arange(1, 7))[1:])


def test_no_size_is_drawn_of_layers_of_two_kinds():
    with pytest.raises(ValueError, match="size=2: the layers are of several kinds"):
        drawn_ties(6, 0, size=2, kinds=KINDS)
