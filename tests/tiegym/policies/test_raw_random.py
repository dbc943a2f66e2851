"""Uniform draws over raw actions, and a vector that is drawn once."""

import gymnasium
import numpy as np
import pytest

from tiegym import ties
from tiegym.policies.random_tying import RandomTying, RawRandom, drawn_ties


def test_raw_draws_are_uniform_over_all_actions():
    policy = RawRandom(gymnasium.spaces.Discrete(4), seed=0)
    drawn = [int(policy.predict({"layer": 1})[0]) for _ in range(4000)]
    assert np.bincount(drawn, minlength=4) / 4000 == pytest.approx([0.25] * 4, abs=0.03)


def test_raw_joint_draws_are_within_the_space():
    space = gymnasium.spaces.MultiDiscrete(np.arange(2, 7))
    policy = RawRandom(space, seed=0)
    drawn = np.array([policy.predict({})[0] for _ in range(500)])
    assert all(space.contains(action) for action in drawn)
    assert drawn.max(axis=0).tolist() == [1, 2, 3, 4, 5]


def test_pairs_all_differ_so_that_both_null_models_draw_them_alike():
    space = gymnasium.spaces.Discrete(10)  # of four layers
    raw, masked = RawRandom(space, 7), RandomTying(space, 4, 7)
    draws = [[int(p.predict({})[0]) for _ in range(50)] for p in (raw, masked)]
    assert draws[0] == draws[1]


def test_a_drawn_vector_is_uniform_over_all_of_them_and_the_seeds_own():
    vectors = [drawn_ties(4, seed) for seed in range(3000)]
    for vector in vectors:
        ties.validate(vector, 4)
    assert np.array_equal(drawn_ties(4, 3), vectors[3])
    mean = np.mean([ties.n_independent(vector) for vector in vectors])
    assert mean == pytest.approx(ties.expected_independent(4), abs=0.06)
    assert len({tuple(vector) for vector in vectors}) == 24
