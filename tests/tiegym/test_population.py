"""TiePopulation: every member is a TieEnv, whatever library steps it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as wrappers
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import tiegym
from tests.tiegym.small import SMALL

NEXT_STEP, SAME_STEP = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP


def population(num_envs=3, mode=NEXT_STEP, **changes):
    arguments = {**SMALL, "max_iters": 5, **changes}  # the last step has one iteration
    return gymnasium.make_vec(
        "TiePopulation-v0", num_envs=num_envs, autoreset_mode=mode, **arguments
    )


def loop(num_envs=3, mode=NEXT_STEP, **changes):
    return gymnasium.make_vec(
        "TieEnv-v0",
        num_envs=num_envs,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        **{**SMALL, "max_iters": 5, **changes},
    )


def assert_close(mine, theirs, where=""):
    """The same up to rounding: keys, types, shapes, and who has what."""
    if isinstance(theirs, dict):
        assert mine.keys() == theirs.keys(), where
        for key in theirs:
            if "model_state_bytes" not in key:  # a step count a row, not one a tensor
                assert_close(mine[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, tuple) or getattr(theirs, "dtype", 0) == np.dtype(object):
        for k, (a, b) in enumerate(zip(mine, theirs, strict=True)):
            assert_close(a, b, f"{where}[{k}]")
    else:
        assert type(mine) is type(theirs), where
        if isinstance(theirs, np.ndarray):
            assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape), where
        if theirs is not None:
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4, err_msg=where)


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"action": "pair", "reward": "delta_ppl_params", "param_cost": 0.5, "dropout": 0.1},
        {"action": "joint", "tie_parts": "attention+mlp", "choices": "tie+freeze"},
        # Some diverge and begin anew while the others go on.
        {"learning_rate": 0.03, "divergence_loss": 5.56, "max_iters": 12},
    ],
    ids=["layerwise", "pair", "joint parts", "diverging"],
)
def test_steps_are_those_of_single_environments(mode, changes):
    mine, theirs = population(mode=mode, **changes), loop(mode=mode, **changes)
    assert_close(mine.reset(seed=7), theirs.reset(seed=7))
    mine.action_space.seed(1)
    ends = []
    for step in range(9):
        actions = mine.action_space.sample()
        result, expected = mine.step(actions), theirs.step(actions)
        for a, b, name in zip(
            result, expected, ("obs", "reward", "end", "cut", "info"), strict=True
        ):
            assert_close(a, b, f"{step} {name}")
        np.testing.assert_array_equal(mine.action_masks(), np.stack(theirs.call("action_masks")))
        np.testing.assert_array_equal(mine.ties, np.stack(theirs.get_attr("ties")))
        ends.append(result[2].copy())
    assert mine.single_observation_space == theirs.single_observation_space
    assert mine.single_action_space == theirs.single_action_space
    assert np.any(ends)
    if "divergence_loss" in changes:
        assert any(0 < end.sum() < 3 for end in ends)


def test_seeds_are_numbers_or_one_for_each():
    mine = population()
    first, _ = mine.reset(seed=4)
    by_number = mine.step([1, 1, 1])[1]
    mine.reset(seed=[4, 5, 6])
    np.testing.assert_array_equal(mine.step([1, 1, 1])[1], by_number)
    assert len(set(by_number)) == 3
    mine.reset(seed=4)
    again = mine.reset()  # the next episode of each member's own stream
    assert not np.array_equal(mine.step([1, 1, 1])[1], by_number)
    mine.reset(seed=4)
    mine.reset(seed=[None, None, None])
    np.testing.assert_array_equal(first["ties"], again[0]["ties"])
    with pytest.raises(ValueError, match="one a member"):
        mine.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="knows no options"):
        mine.reset(options={"run": 1})


def test_it_neither_reads_nor_advances_global_generators():
    import torch

    mine = population(dropout=0.1)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    mine.reset(seed=0)
    mine.step([0, 1, 1])
    assert torch.equal(torch.get_rng_state(), states[0])
    np.testing.assert_array_equal(np.random.get_state()[1], states[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"num_envs": True}, "num_envs=True"),
        ({"mode": AutoresetMode.DISABLED}, "NEXT_STEP or SAME_STEP"),
        ({"render_mode": "human"}, "render_mode='human'"),
        ({"compile": True}, "compile=True.*TieEnv-v0"),
        ({"n_layer": 0}, "n_layer=0"),
    ],
)
def test_wrong_arguments_are_errors_at_once(changes, message):
    with pytest.raises(ValueError, match=message):
        population(**changes)


def test_unknown_arguments_are_named():
    with pytest.raises(TypeError, match=r"n_layers.*did you mean n_layer"):
        population(n_layers=3)


@pytest.mark.parametrize("actions", [[0, 1], [0, 1, 4], [0, 1, -1], [0.0, 1.0, 1.0], None])
def test_wrong_actions_are_errors_and_change_nothing(actions):
    mine = population()
    mine.reset(seed=0)
    with pytest.raises(ValueError, match="are not in"):
        mine.step(actions)
    assert mine.step([1, 1, 1])[4]["iteration"].tolist() == [2, 2, 2]


def test_a_reset_comes_first():
    with pytest.raises(gymnasium.error.ResetNeeded):
        population().step([0, 0, 0])


@pytest.mark.parametrize("mode", [NEXT_STEP, SAME_STEP])
def test_a_checkpoint_goes_on_bit_by_bit(mode, tmp_path):
    mine = population(mode=mode, dropout=0.1, choices="tie+freeze")
    mine.reset(seed=0)
    for actions in ([0, 4, 4], [1, 1, 0]):
        mine.step(actions)
    mine.save_checkpoint(tmp_path / "here.safetensors")
    other = population(mode=mode, dropout=0.1, choices="tie+freeze")
    other.load_checkpoint(tmp_path / "here.safetensors")
    for actions in ([2, 0, 4], [3, 3, 3], [0, 1, 2]):
        assert str(mine.step(actions)) == str(other.step(actions))
    for wrong, message in (
        (population(2, mode, dropout=0.1, choices="tie+freeze"), "3 members"),
        (population(mode=mode), "different are"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong.load_checkpoint(tmp_path / "here.safetensors")


def test_a_member_goes_on_alone_from_its_snapshot():
    mine = population()
    mine.reset(seed=0)
    mine.step([1, 0, 1])
    alone = tiegym.TieEnv(**{**SMALL, "max_iters": 5})
    alone.restore(mine.snapshot(2))
    _, rewards, _, _, _ = mine.step([0, 0, 2])
    assert alone.step(2)[1] == pytest.approx(rewards[2], abs=1e-5)


def test_without_the_test_split_nothing_reads_it(monkeypatch):
    mine = population(mode=SAME_STEP, max_iters=2)
    mine.reads_test = False
    monkeypatch.setattr(mine._population, "test_losses", lambda members: pytest.fail("read"))
    mine.reset(seed=0)
    infos = mine.step([0, 0, 0])[4]
    assert np.isinf(infos["final_info"]["test_perplexity"]).all()


@pytest.mark.parametrize(
    "wrap",
    [
        wrappers.RecordEpisodeStatistics,
        lambda envs: wrappers.FilterObservation(envs, ["ties", "loss"]),
        wrappers.DictInfoToList,
        wrappers.FlattenObservation,
        lambda envs: wrappers.ClipReward(envs, -1, 1),
        lambda envs: wrappers.TransformReward(envs, lambda rewards: 2 * rewards),
        lambda envs: wrappers.NormalizeReward(envs),
        lambda envs: wrappers.NormalizeObservation(wrappers.FlattenObservation(envs)),
        lambda envs: wrappers.DtypeObservation(wrappers.FlattenObservation(envs), np.float64),
        lambda envs: wrappers.RescaleObservation(wrappers.FlattenObservation(envs), -1, 1),
    ],
)
def test_gymnasiums_vector_wrappers_apply(wrap):
    envs = wrap(population(2))
    envs.reset(seed=0)
    for _ in range(4):  # past the end of an episode
        observations, rewards, *_ = envs.step(envs.action_space.sample())
        assert len(rewards) == 2
        assert observations is not None


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN, MaskablePPO, RecurrentPPO])
def test_the_agents_of_sb3_learn_on_it(algorithm):
    env = VecNormalize(
        VecMonitor(tiegym.as_vec_env(population(2, SAME_STEP))), norm_obs_keys=["loss"]
    )
    settings = {"learning_starts": 2} if algorithm is DQN else {"n_steps": 4}
    if "PPO" in algorithm.__name__:
        settings |= {"batch_size": 8, "n_epochs": 1}
    policy = "MultiInputLstmPolicy" if algorithm is RecurrentPPO else "MultiInputPolicy"
    if algorithm is RecurrentPPO:
        from agents.recurrent_ppo import FlatObservation

        settings["policy_kwargs"] = {
            "features_extractor_class": FlatObservation,
            "lstm_hidden_size": 8,
        }
    model = algorithm(policy, env, seed=0, device="cpu", **settings)
    model.learn(8)
    assert model.num_timesteps == 8
    assert len(model.ep_info_buffer) == 2  # an episode of three steps each
    assert is_masking_supported(env)
    assert get_action_masks(env).shape == (2, 4)
