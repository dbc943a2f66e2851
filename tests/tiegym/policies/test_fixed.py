"""FixedTies: from whatever ties, step by step to its vector."""

import json

import gymnasium
import numpy as np
import pytest

from tests.tiegym.playing import MIXED
from tests.tiegym.small import SMALL
from tiegym import TieEnv
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


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
@pytest.mark.parametrize(
    ("tie_parts", "wanted"),
    [("block", [0, 1, 0, 1]), ("attention+mlp", [0, 1, 0, 1, 0, 0, 0, 0])],
)
def test_with_layers_of_two_kinds_it_reaches_what_is_nearest(action, tie_parts, wanted):
    pytest.importorskip("transformers")
    mixed = {"model": "gemma3_text", "model_config": json.dumps(MIXED), "tie_parts": tie_parts}
    env = TieEnv(**SMALL | mixed | {"action": action, "iters_per_step": 1, "max_iters": 9})
    policy = FixedTies(np.zeros(4, np.int64), env.action_space, kinds=env.actions.kinds)
    observation, info = env.reset(seed=0)
    for _ in range(8):
        chosen, _ = policy.predict(observation)
        if action != "joint":
            assert env.action_masks()[chosen]
        observation, *_, info = env.step(chosen)
    assert info["ties"].tolist() == wanted
