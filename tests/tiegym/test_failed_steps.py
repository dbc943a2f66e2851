"""A step that fails half-way: environment and model agree on the ties, and go on."""

import gymnasium
import numpy as np
import pytest
import torch

import tiegym
from tests.tiegym.small import SMALL
from tiegym.training import population_rows
from tiegym.transformer.gpt import TiedTransformer


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


fail = failing(MemoryError)


def goes_on(env, path):
    """Whether ties agree, a checkpoint of it loads, and both take the same next step."""
    assert env.ties.tolist() == env.model.ties.tolist()
    assert env.frozen.tolist() == env.model.frozen
    env.save_checkpoint(path)
    twin = type(env)(**vars(env.config))
    twin.load_checkpoint(path)
    mine, its = env.step(3), twin.step(3)
    assert np.isfinite(mine[1])
    return mine[1] == its[1]


FREEZING = {"choices": "tie+freeze", "initial_ties": "independent"}


@pytest.mark.parametrize("config", [{}, FREEZING, {"action": "pair", "tie_parts": "attention+mlp"}])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_a_step_whose_training_fails_leaves_one_set_of_ties(error, config, monkeypatch, tmp_path):
    env = tiegym.TieEnv(**SMALL | config)
    env.reset(seed=0)
    env.step(4 if config is FREEZING else 1)  # freezes layer 0
    with monkeypatch.context() as patch:
        patch.setattr(env._trainer, "train", failing(error))
        with pytest.raises(error):
            env.step(2)
    assert goes_on(env, tmp_path / "c")


def test_a_layer_that_was_to_train_again_has_no_moments_yet(monkeypatch, tmp_path):
    env = tiegym.TieEnv(**SMALL | FREEZING, action="pair")
    env.reset(seed=0)
    env.step(10 + 2)  # freezes layer 2
    with monkeypatch.context() as patch:
        patch.setattr(env._trainer, "train", fail)
        with pytest.raises(MemoryError):
            env.step(3 + 2)  # layer 2 is independent
    assert not env.frozen.any()
    assert goes_on(env, tmp_path / "c")


@pytest.mark.parametrize("freezes", [False, True])
def test_a_tie_change_without_room_for_its_clones_leaves_one_set_of_ties(
    freezes, monkeypatch, tmp_path
):
    env = tiegym.TieEnv(**SMALL, action="joint", choices="tie+freeze" if freezes else "tie")
    env.reset(seed=0)
    first, then = ([0, 2, 1, 1], [0, 0, 2, 3]) if freezes else ([0, 0, 2], [1, 2, 3])
    env.step(np.array(first))
    with monkeypatch.context() as patch:
        patch.setattr(TiedTransformer, "new_block", fail)
        with pytest.raises(MemoryError):
            env.step(np.array(then))
    assert env.ties.tolist() == env.model.ties.tolist()
    assert env.frozen.tolist() == env.model.frozen
    env.save_checkpoint(tmp_path / "c")
    env.load_checkpoint(tmp_path / "c")
    env.step(np.array(then))


@pytest.mark.parametrize("tie_parts", ["block", "attention+mlp"])
def test_a_population_without_room_for_a_tie_change_begins_anew(tie_parts, monkeypatch):
    envs, fresh = (tiegym.TiePopulation(2, **SMALL, tie_parts=tie_parts) for _ in range(2))
    envs.reset(seed=0)
    envs.step([1, 0])
    real, calls = population_rows._taken, []

    def fails_once(*args):
        calls.append(args)
        return fail() if len(calls) == 3 else real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(population_rows, "_taken", fails_once)
        with pytest.raises(MemoryError):
            envs.step([0, 2])
    with pytest.raises(gymnasium.error.ResetNeeded):
        envs.step([0, 2])
    for many in (envs, fresh):
        many.reset(seed=1)
    for actions in ([1, 0], [0, 2]):
        assert envs.step(actions)[1].tolist() == fresh.step(actions)[1].tolist()


def test_members_of_a_population_agree_with_it(monkeypatch, tmp_path):
    envs = tiegym.TiePopulation(2, **SMALL)
    envs.reset(seed=0)
    envs.step([1, 0])
    with monkeypatch.context() as patch:
        patch.setattr(envs._population, "train", fail)
        with pytest.raises(MemoryError):
            envs.step([0, 2])
    assert envs.ties.tolist() == envs._population.ties.tolist()
    envs.save_checkpoint(tmp_path / "c")
    twin = tiegym.TiePopulation(2, **SMALL)
    twin.load_checkpoint(tmp_path / "c")
    assert envs.step([0, 3])[1].tolist() == twin.step([0, 3])[1].tolist()
    single = tiegym.TieEnv(**SMALL)
    single.restore(envs.snapshot(1))
    assert all(torch.isfinite(p).all() for p in single.model.parameters())
