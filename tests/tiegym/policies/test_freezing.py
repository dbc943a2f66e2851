"""Progressive freezing: which layers train until when."""

import numpy as np
import pytest
import torch

from tests.tiegym.small import SMALL
from tiegym.env import TieEnv
from tiegym.policies.freezing import AutoFreeze, first_to_train, freeze_out, gradient_norms


def as_lists(plan):
    return [(start, choices.tolist()) for start, choices in plan]


def test_freezeouts_linear_plan_spreads_the_ends_of_layers_evenly():
    # t_i = 0.5 + 0.5 i / 4: of 80 iterations 40, 50, 60, 70; the head goes on to 80.
    assert as_lists(freeze_out(4, 80, start=0.5, power=1)) == [
        (0, [0, 1, 2, 3]),
        (40, [1, 1, 2, 3]),
        (50, [1, 2, 2, 3]),
        (60, [1, 2, 3, 3]),
        (70, [1, 2, 3, 4]),
    ]


def test_freezeouts_cubic_plan_is_the_cube_of_the_linear_one():
    # 0.8, 0.9 of two layers: 0.512 and 0.729 of the iterations.
    assert [start for start, _ in freeze_out(2, 1000)] == [0, 512, 729]
    assert [start for start, _ in freeze_out(2, 1000, start=1.0)] == [0, 1000, 1000]  # never
    assert [start for start, _ in freeze_out(2, 1000, start=0.0)] == [0, 0, 125]


def test_autofreezes_test_freezes_what_lies_below_the_first_layer_of_great_change():
    before = np.array([1.0, 2.0, 4.0, 8.0, 10.0])
    now = np.array([1.1, 1.6, 4.2, 4.0, 4.0])  # changes 0.1, 0.2, 0.05, 0.5, 0.6
    assert first_to_train(before, now, 0, 50) == 1  # the median is 0.2
    assert first_to_train(before, now, 0, 60) == 3
    assert first_to_train(before, now, 0, 0) == 0
    assert first_to_train(before, now, 0, 100) == 4
    assert first_to_train(before, now, 1, 50) == 3  # of 0.2, 0.05, 0.5, 0.6: the median is 0.35
    assert first_to_train(before, now, 4, 50) == 4  # the last one is never frozen
    # Changes are relative to the norms before: 1 and 1/2, not 1/2 and 1.
    assert first_to_train(np.array([1.0, 2.0]), np.array([2.0, 1.0]), 0, 100) == 0
    assert first_to_train(np.zeros(2), np.array([0.0, 1.0]), 0, 50) == 1  # nothing is divided by 0


def observed(iteration, frozen, parts=1):
    observation = {
        "ties": np.tile(np.arange(len(frozen)), parts),
        "budget": np.array([iteration / 100], dtype=np.float32),
        "frozen": np.tile(np.array(frozen, dtype=np.int8), parts),
    }
    return observation | ({"part": 0} if parts > 1 else {})


@pytest.mark.parametrize("parts", [1, 2])
def test_autofreeze_tests_at_even_intervals_and_begins_anew_with_each_episode(parts):
    asked = []

    def norms():
        asked.append(len(asked))
        return [[1, 1, 1], [1, 2, 3], [1, 2, 2]][asked[-1]]

    def predict(iteration, frozen, state, start=False):
        observation = observed(iteration, frozen, parts)
        action, state = policy.predict(observation, state, np.array([start]))
        assert action.tolist() == action[:3].tolist() * parts
        return action[:3].tolist(), state

    policy = AutoFreeze(norms, max_iters=100, tests=4)
    assert predict(0, [0, 0, 0], None, start=True) == ([0, 1, 2], (0, None))
    _, state = predict(24, [0, 0, 0], None)
    assert not asked
    action, state = predict(26, [0, 0, 0], state)
    assert (action, len(asked)) == ([0, 1, 2], 1)  # the first one has nothing to compare with
    assert predict(49, [0, 0, 0], state)[0] == [0, 1, 2]
    assert len(asked) == 1
    action, state = predict(50, [0, 0, 0], state)  # changes 0, 1, 2: below the median is layer 0
    assert action == [1, 1, 2]
    assert predict(51, [1, 0, 0], state)[0] == [1, 1, 2]  # and stays frozen
    action, state = predict(75, [1, 0, 0], state)  # changes of the others: 0 and 1/3
    assert (action, len(asked)) == ([1, 2, 2], 3)
    assert predict(0, [0, 0, 0], state, start=True) == ([0, 1, 2], (0, None))


@pytest.mark.parametrize("tie_parts", ["block", "attention+mlp"])
def test_gradient_norms_are_those_of_the_mean_gradient_of_each_layer(tie_parts):
    config = {"action": "joint", "choices": "tie+freeze", "initial_ties": "independent"}
    env = TieEnv(**SMALL | config | {"tie_parts": tie_parts, "iters_per_step": 1, "grad_clip": 0})
    parts = 1 if tie_parts == "block" else 2
    env.reset(seed=0)
    assert gradient_norms(env.model, env.optimizer) == [0, 0, 0, 0]  # nothing was trained yet
    gradients = []
    for _ in range(3):
        env.step(np.array([1, 1, 2, 3] * parts))
        gradients.append(
            [
                torch.cat([p.grad.flatten() for p in block(env, layer, parts)])
                for layer in range(1, 4)
            ]
        )
    shares = torch.tensor([0.9**2, 0.9, 1.0]) / (1 + 0.9 + 0.9**2)
    expected = [
        sum(share * g for share, g in zip(shares, of_layer, strict=True)).abs().sum().item()
        for of_layer in zip(*gradients, strict=True)
    ]
    found = gradient_norms(env.model, env.optimizer)
    assert found[0] == 0  # frozen
    assert found[1:] == pytest.approx(expected, rel=1e-5)


def block(env, layer, parts):
    return [
        p for part in range(parts) for p in env.model.independent(part * 4 + layer).parameters()
    ]
