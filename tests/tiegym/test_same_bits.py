"""With its arguments at their defaults the environment gives the bits that it always gave.

What is pinned was recorded before layers had parts and could be frozen.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch

import tiegym
from tests.tiegym.small import SMALL
from tiegym.runs.provenance import device_facts

LATER = ("stored_bytes",)
"""Keys of info that it didn't have then: they must be there, and are left out of what is pinned."""

RECORDED_ON = ("2.13.0", "AVX512")
"""PyTorch's version and the processor's kind, which decide the last bits of a sum, as does whose
processor it is."""

CASES = {
    "layerwise-owner": ({}, [1, 0, 2, 3, 0, 1]),
    "pair-sum": ({"action": "pair", "tie_grad": "sum", "dropout": 0.1}, [9, 2, 5, 7, 0, 8]),
    "joint-owner": (
        {"action": "joint", "initial_ties": "cycle:2", "param_cost": 0.5, "reward": "ppl_params"},
        [[1, 1, 3], [0, 2, 2], [1, 2, 3], [1, 0, 0], [0, 0, 0], [1, 1, 1]],
    ),
}


def digest(*values):
    result = hashlib.sha256()
    for value in values:
        if isinstance(value, dict):
            value = digest(*(entry for pair in value.items() for entry in pair))
        elif isinstance(value, np.ndarray):
            value = (str(value.dtype), value.shape, value.tobytes())
        result.update(repr(value).encode())
    return result.hexdigest()[:16]


def without_later(info):
    assert info.keys() >= {*LATER}
    return {key: value for key, value in info.items() if key not in LATER}


def recorded(case):
    """What can be told of a whole episode: exact facts, bits, and losses to six digits."""
    changes, actions = CASES[case]
    env = tiegym.TieEnv(**SMALL | changes)
    observation, info = env.reset(seed=3)
    info = without_later(info)
    facts = [repr(env.action_space), repr(env.observation_space), list(info), [*observation]]
    bits, losses = [digest(observation, info)], []
    for action in actions:
        observation, reward, terminated, _, info = env.step(np.array(action, dtype=np.int64))
        facts += [info["ties"].tolist(), info["n_independent"], info["trainable_params"]]
        facts += [info["model_state_bytes"], env.action_masks().tolist(), terminated]
        facts += [int(observation["layer"]), info["iteration"]]
        bits.append(digest(observation, reward, without_later(info)))
        losses.append(info["val_loss"])
    names = [name for name, _ in env.model.named_parameters()]
    bits += [digest(p.detach().numpy()) for p in env.model.parameters()]
    return digest(json.dumps([facts, names])), digest(*bits), losses


PINNED = {
    "layerwise-owner": (
        "4730954e745f5bad",
        {"Intel(R)": "07764490700ceb18", "AMD": "7c388ffed184cde8"},
        [5.5182567, 5.4688683, 5.4172759, 5.3723812, 5.3267145, 5.2765985],
    ),
    "pair-sum": (
        "79a95e16d9eb0bf5",
        {"Intel(R)": "51e7368d496fcaba", "AMD": "2b11780f49304db7"},
        [5.5166516, 5.4668140, 5.4148440, 5.3723412, 5.3257570, 5.2749910],
    ),
    "joint-owner": (
        "36ca36fb7344905b",
        {"Intel(R)": "062dda4647f9d438", "AMD": "cf98f2692e8a2816"},
        [5.5132627, 5.4688873, 5.4213196, 5.3844380, 5.3409858, 5.2936025],
    ),
}
"""Of each case: exact facts, bits by processor, and validation losses in nats after each step."""


@pytest.mark.parametrize("case", CASES)
def test_an_episode_at_the_defaults_has_the_bits_that_it_had(case):
    facts, bits, losses = recorded(case)
    assert facts == PINNED[case][0]
    assert losses == pytest.approx(PINNED[case][2], rel=1e-5)
    if (torch.__version__.partition("+")[0], torch.backends.cpu.get_cpu_capability()) == (
        RECORDED_ON
    ):
        maker = device_facts("cpu")["device_name"].partition(" ")[0]
        assert bits == PINNED[case][1].get(maker, bits)
