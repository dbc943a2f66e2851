"""FixedTies: from whatever ties, step by step to its vector."""

import gymnasium
import numpy as np
import pytest

from tests.tiegym.small import SMALL
from tiegym.policies.fixed import FixedTies


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_a_fixed_policy_reaches_its_pattern_and_stays(action):
    env = gymnasium.make("TieEnv-v0", **SMALL | {"action": action, "iters_per_step": 1})
    target = np.array([0, 1, 0, 2])
    policy = FixedTies(target, env.action_space)
    observation, info = env.reset(seed=0)
    for step in range(6):
        action, _ = policy.predict(observation)
        observation, *_, info = env.step(action)
        if step >= 2:
            assert info["ties"].tolist() == target.tolist()
