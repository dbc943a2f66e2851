"""Environments that are made in a forked process, pickled before they are registered, and so on."""

import multiprocessing
import pickle
import sys

import gymnasium
import numpy as np
import pytest
import torch

import tiegym
from tests.tiegym.small import SMALL

WIDE = {**SMALL, "n_embd": 128, "n_head": 2}
"""Wide enough for OpenMP to use its threads where weights are read."""


@pytest.fixture
def exported(tmp_path):
    env = tiegym.TieEnv(**WIDE)
    env.reset(seed=0)
    env.export(tmp_path / "model.safetensors")
    return str(tmp_path / "model.safetensors")


def in_child(path, results):
    env = tiegym.TieEnv(**WIDE, initial_weights=path)
    env.reset(seed=0)
    results.put(float(env.step(1)[1]))
    many = tiegym.TiePopulation(1, **WIDE, initial_weights=path)
    many.reset(seed=0)
    results.put(float(many.step([1])[1][0]))
    model = tiegym.load_model(path)
    logits = tiegym.generate(model, torch.zeros(1, 1, dtype=torch.long), 2)
    results.put(float(logits.sum()))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_forked_process_makes_environments_from_weights(exported):
    """OpenMP's threads are gone after a fork: whoever waits for them waits for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.randn(512, 512) @ torch.randn(512, 512)  # the parent has used its threads
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        child = context.Process(target=in_child, args=(exported, results))
        child.start()
        child.join(120)
        ended = child.exitcode
        child.kill()
    finally:
        torch.set_num_threads(before)
    assert ended == 0
    env = tiegym.TieEnv(**WIDE, initial_weights=exported)
    env.reset(seed=0)
    assert results.get() == pytest.approx(env.step(1)[1])


@pytest.mark.parametrize("made", [tiegym.TieEnv, lambda **k: gymnasium.make("TieEnv-v0", **k)])
def test_an_environment_is_pickled_however_it_was_made(made):
    env = made(**SMALL)
    env.reset(seed=0)
    env.step(1)
    again = pickle.loads(pickle.dumps(env.unwrapped))
    assert again.spec == env.unwrapped.spec
    assert again.step(0)[1] == env.step(0)[1]


@pytest.mark.parametrize("rate", [np.float64(0.02), np.float32(0.02), torch.tensor(0.02)])
def test_a_learning_rate_of_another_library_goes_with_every_copy(rate, tmp_path):
    env = tiegym.TieEnv(**SMALL)
    env.reset(seed=0)
    env.step(1)
    env.optimizer.param_groups[0]["lr"] = rate
    copies = [env.fork(), pickle.loads(pickle.dumps(env))]
    copies += [tiegym.TieEnv(**SMALL) for _ in range(2)]
    copies[2].reset(seed=9)
    copies[2].restore(env.snapshot())
    env.save_checkpoint(tmp_path / "c.safetensors")
    copies[3].load_checkpoint(tmp_path / "c.safetensors")
    expected = env.step(1)[1]
    assert [copied.step(1)[1] for copied in copies] == [expected] * 4


def test_what_a_schedule_has_kept_of_an_episode_is_gone_in_the_next():
    def rates(env, first):
        env.reset(seed=0)
        if first:
            env.optimizer.param_groups[0]["lr"] = 0.02
            torch.optim.lr_scheduler.LambdaLR(env.optimizer, lambda step: 1.0)
            env.step(1)
            env.reset(seed=0)
        env.optimizer.param_groups[0]["lr"] = 0.005
        torch.optim.lr_scheduler.LambdaLR(env.optimizer, lambda step: 1.0)
        return env.optimizer.param_groups[0]["lr"], env.step(1)[1]

    assert rates(tiegym.TieEnv(**SMALL), True) == rates(tiegym.TieEnv(**SMALL), False)
    assert rates(tiegym.TieEnv(**SMALL), True)[0] == 0.005


def test_depths_of_a_fork_are_its_own():
    env = tiegym.TieEnv(**SMALL)
    env.reset(seed=0)
    env.depths = [2] * SMALL["max_iters"]
    twin = env.fork()
    env.depths[0] = 1
    assert twin.depths[0] == 2


@pytest.mark.parametrize("depths", [3, [float("nan")] * 99, ["a"] * 99, [1.5] * 99, [True] * 99])
def test_depths_are_whole_numbers(depths):
    env = tiegym.TieEnv(**SMALL)
    env.reset(seed=0)
    env.depths = depths
    with pytest.raises(ValueError, match=r"depths=.* must be whole numbers"):
        env.step(1)
    env.depths = np.full(99, 4)
    env.step(1)
    for depth in (1.5, "2", 0):
        with pytest.raises(ValueError, match=f"depth={depth!r} must be at least 1 layer"):
            env.validation_loss(depth)


@pytest.mark.parametrize("member", [-1, 2, "a", 0.5])
def test_a_member_that_is_none_is_named(member):
    many = tiegym.TiePopulation(2, **SMALL)
    many.reset(seed=0)
    with pytest.raises(ValueError, match=f"member={member!r} must be from 0 to 1"):
        many.snapshot(member)


def test_members_take_seeds_of_numpy_and_refuse_what_is_none():
    many = tiegym.TiePopulation(2, **SMALL)
    many.reset(seed=np.arange(2))
    first = many.step([1, 1])[1].tolist()
    for wrong in (1.5, [0, -1], [0.0, 1.0], "01", [0], True, [0, True]):
        with pytest.raises(ValueError, match=r"seed=.*: give one whole number"):
            many.reset(seed=wrong)
    many.reset(seed=[0, 1])
    assert many.step([1, 1])[1].tolist() == first


def test_metrics_of_what_has_diverged_are_0():
    pytest.importorskip("transformers")
    small = {"model": "vit", "corpus": "digits", "n_layer": 2, "n_embd": 16, "n_head": 2}
    env = tiegym.TieEnv(**small, max_iters=4, batch_size=8, learning_rate=1e12, grad_clip=0.0)
    env.reset(seed=0)
    *_, info = env.step(1)
    assert info["diverged"]
    assert (info["accuracy"], info["test_accuracy"]) == (0.0, 0.0)
