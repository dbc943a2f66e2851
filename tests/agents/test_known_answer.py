"""The environment behind the learning tests stands for TieEnv, and says what it should."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import tiegym  # noqa: F401 registers the environments
from tests.agents.known_answer import KnownAnswer


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_it_has_the_spaces_the_observations_and_the_masks_of_tieenv(action):
    known = KnownAnswer(action=action)
    real = gymnasium.make("TieEnv-v0", corpus="synthetic:40000", n_layer=5, action=action)
    assert known.action_space == real.action_space
    assert known.observation_space == real.observation_space
    (a, a_info), (b, b_info) = known.reset(seed=0), real.reset(seed=0)
    assert a.keys() == b.keys()
    assert all(np.shape(a[key]) == np.shape(b[key]) for key in a)
    assert a["layer"] == b["layer"]
    assert str(a_info.get("action_mask")) == str(b_info.get("action_mask"))


@pytest.mark.filterwarnings("ignore")  # of the checker's own opinions
def test_it_passes_gymnasiums_checker():
    check_env(KnownAnswer(noise=0.1), skip_render_check=True)


def test_the_best_ties_have_the_best_reward():
    env = KnownAnswer(best=(0, 1, 0, 1), floor=5.0)
    env.reset(seed=0)
    rewards = [env.step(target)[1] for target in (1, 0, 1, 3)]
    assert rewards == [-6.0, -6.0, -5.0, -5.0]  # any target from layer 1 on: independent
    assert env.ties.tolist() == [0, 1, 0, 1]
