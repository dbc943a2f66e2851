from __future__ import annotations

import math

import pytest
import torch

import tiegym
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.training.schedule import rate_factor


def factors(**arguments):
    config = TieConfig(**arguments)
    return [rate_factor(config, iteration) for iteration in range(config.max_iters)]


def test_without_a_schedule_the_rate_is_constant():
    assert factors(max_iters=5) == [1.0] * 5


def test_the_warm_up_rises_linearly_to_the_whole_rate():
    assert factors(max_iters=6, warmup_iters=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_decay_falls_from_the_whole_rate_towards_nothing():
    cosine = factors(max_iters=12, warmup_iters=2, lr_decay="cosine")
    linear = factors(max_iters=12, warmup_iters=2, lr_decay="linear")
    for k in range(10):
        assert linear[2 + k] == pytest.approx(1 - k / 10)
        assert cosine[2 + k] == pytest.approx((1 + math.cos(math.pi * k / 10)) / 2)


def test_a_warm_up_may_last_the_whole_episode():
    assert factors(max_iters=2, warmup_iters=2, lr_decay="cosine") == [0.5, 1.0]


def run(env, actions):
    return [env.step(action)[4]["val_loss"] for action in actions]


SCHEDULED = {**SMALL, "max_iters": 24, "iters_per_step": 3, "warmup_iters": 5, "lr_decay": "cosine"}
ACTIONS = [1, 0, 2, 1, 1, 0, 0, 2]


def test_the_optimiser_steps_with_the_scheduled_rate():
    env = tiegym.TieEnv(**{**SCHEDULED, "iters_per_step": 1})
    env.reset(seed=0)
    seen = []
    env.optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
    run(env, [0] * 24)
    expected = [env.config.learning_rate * f for f in factors(**SCHEDULED)]
    assert seen == pytest.approx(expected)
    assert env.optimizer.param_groups[0]["lr"] == env.config.learning_rate


def test_what_goes_on_from_a_copy_goes_on_in_its_schedule(tmp_path):
    env = tiegym.TieEnv(**SCHEDULED)
    env.reset(seed=0)
    run(env, ACTIONS[:3])
    env.save_checkpoint(tmp_path / "here.safetensors")
    loaded = tiegym.TieEnv(**SCHEDULED)
    loaded.load_checkpoint(tmp_path / "here.safetensors")
    copies = [env.fork(), loaded]
    expected = run(env, ACTIONS[3:])
    assert [run(copy, ACTIONS[3:]) for copy in copies] == [expected] * 2


def test_the_schedule_multiplies_a_rate_that_the_user_sets():
    env = tiegym.TieEnv(**{**SCHEDULED, "iters_per_step": 1})
    env.reset(seed=0)
    seen = []
    env.optimizer.param_groups[0]["lr"] = 0.5
    env.optimizer.register_step_pre_hook(lambda o, *_: seen.append(o.param_groups[0]["lr"]))
    env.step(0)
    assert seen == [0.5 / 5]


def test_a_schedule_changes_what_is_learnt():
    results = []
    for changes in ({}, {"warmup_iters": 5}, {"lr_decay": "cosine"}, {"lr_decay": "linear"}):
        env = tiegym.TieEnv(**{**SMALL, "max_iters": 24, **changes})
        env.reset(seed=0)
        results.append(run(env, [0] * 6)[-1])
    assert len(set(results)) == 4
    assert all(torch.isfinite(torch.tensor(results)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"warmup_iters": -1}, "warmup_iters=-1 must be from 0 to max_iters"),
        ({"warmup_iters": 401}, "warmup_iters=401 must be from 0 to max_iters=400"),
        ({"lr_decay": "step"}, "lr_decay='step'"),
    ],
)
def test_schedules_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TieConfig(**wrong)
