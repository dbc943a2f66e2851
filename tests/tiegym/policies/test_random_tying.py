"""RandomTying: uniform over the choices that differ."""

import gymnasium
import numpy as np
import pytest

from tiegym import ties
from tiegym.policies.random_tying import RandomTying


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
