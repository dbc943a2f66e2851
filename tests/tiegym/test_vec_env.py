"""Gymnasium's vector environments as Stable-Baselines3's."""

from __future__ import annotations

import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector as wrappers
from sb3_contrib import MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

import tiegym
from tiegym.bench.environment import TieBench


@pytest.fixture
def many(tree_file):
    """Makes the vector form of TieBench, or a loop over single ones."""

    def make(num_envs=3, loop=False, mode=AutoresetMode.SAME_STEP):
        if loop:
            members = [lambda: TieBench(str(tree_file))] * num_envs
            return gymnasium.vector.SyncVectorEnv(members, autoreset_mode=mode)
        return gymnasium.make_vec(
            "TieBench-v0", num_envs=num_envs, table=str(tree_file), autoreset_mode=mode
        )

    return make


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
        assert isinstance(b[key], np.ndarray) or type(a[key]) is type(b[key]), key


@pytest.mark.parametrize("loop", [False, True])
def test_every_member_is_the_single_environment(many, tree_file, loop):
    env = tiegym.as_vec_env(many(loop=loop))
    single = [TieBench(str(tree_file)) for _ in range(3)]
    env.set_options({"run": 1})
    observations = env.reset()
    expected = [one.reset(options={"run": 1}) for one in single]
    rng = np.random.default_rng(0)
    for step in range(4):  # an episode
        for k, (one, (observation, info)) in enumerate(zip(single, expected, strict=True)):
            for key, value in observation.items():
                np.testing.assert_array_equal(observations[key][k], value)
            np.testing.assert_array_equal(get_action_masks(env)[k], one.action_masks())
            if step == 0:
                assert_same(env.reset_infos[k], info)
        actions = rng.integers(3, size=3)
        observations, rewards, ended, infos = env.step(actions)
        assert rewards.dtype == np.float32
        expected = []
        for k, one in enumerate(single):
            observation, reward, terminated, truncated, info = one.step(int(actions[k]))
            expected.append((observation, info))
            assert rewards[k] == np.float32(reward)
            assert ended[k] == terminated == (step == 3)
            assert infos[k].pop("TimeLimit.truncated") is truncated
            last = infos[k].pop("terminal_observation", None)
            assert_same(infos[k], info)
            if terminated:
                assert_same(last, observation)
                assert infos[k]["test_perplexity"] < np.inf
                assert env.reset_infos[k]["iteration"] == 0
            else:
                assert last is None
    assert (observations["budget"] == 0).all()  # the next episode has begun


def test_episodes_that_are_cut_off_are_told_from_those_that_end(tree_file):
    def make():
        return gymnasium.wrappers.TimeLimit(TieBench(str(tree_file)), 3)

    members = gymnasium.vector.SyncVectorEnv([make] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    env = tiegym.as_vec_env(members)
    env.reset()
    for _ in range(3):
        _, _, ended, infos = env.step(np.zeros(2, dtype=np.int64))
    assert ended.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [True, True]
    assert infos[0]["terminal_observation"]["budget"] == np.float32(0.75)


@pytest.mark.parametrize("algorithm", [PPO, A2C, DQN, MaskablePPO, RecurrentPPO])
def test_the_agents_of_sb3_learn_on_it(many, algorithm):
    env = VecNormalize(
        VecMonitor(tiegym.as_vec_env(many(4))), norm_obs_keys=["loss", "layer_stats"]
    )
    settings = {"learning_starts": 8} if algorithm is DQN else {"n_steps": 8}
    if "PPO" in algorithm.__name__:
        settings |= {"batch_size": 32, "n_epochs": 2}
    policy = "MultiInputLstmPolicy" if algorithm is RecurrentPPO else "MultiInputPolicy"
    if algorithm is RecurrentPPO:
        from agents.recurrent_ppo import FlatObservation

        settings["policy_kwargs"] = {"features_extractor_class": FlatObservation}
    model = algorithm(policy, env, seed=3, device="cpu", **settings)
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(64)
    assert model.num_timesteps == 64
    assert {episode["l"] for episode in model.ep_info_buffer} == {4}
    assert any((p != q).any() for p, q in zip(model.policy.parameters(), before, strict=True))
    if algorithm is MaskablePPO:
        assert is_masking_supported(env)


@pytest.mark.parametrize("loop", [False, True])
def test_what_a_wrapper_says_of_an_episode_stands_at_its_end(many, loop):
    env = tiegym.as_vec_env(wrappers.RecordEpisodeStatistics(many(2, loop=loop)))
    env.reset()
    for step in range(9):
        _, _, ended, infos = env.step(np.zeros(2, dtype=np.int64))
        assert ended.all() == (step in (3, 7))
        assert ["episode" in info for info in infos] == ended.tolist()
        assert not any("episode" in info for info in env.reset_infos)
    assert {key for info in infos for key in info if "episode" in key} == set()


def test_a_seed_fixes_what_the_members_play(many):
    def played(seed):
        env = tiegym.as_vec_env(many(8))
        env.seed(seed)
        env.reset()
        return [env.step(np.zeros(8, dtype=np.int64))[0]["loss"].tolist() for _ in range(9)]

    assert played(5) == played(5)
    assert played(5) != played(6)


def test_another_autoreset_mode_is_refused(many):
    with pytest.raises(ValueError, match=r"NEXT_STEP of TieBenchVector: .* SAME_STEP"):
        tiegym.as_vec_env(many(mode=AutoresetMode.NEXT_STEP))
    with pytest.raises(ValueError, match="SyncVectorEnv"):
        tiegym.as_vec_env(many(loop=True, mode=AutoresetMode.NEXT_STEP))


def test_without_sb3_it_says_what_to_install(many, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiegym.sb3_vec_env", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tiegym\[agents\]'"):
        tiegym.as_vec_env(many())


@pytest.mark.parametrize("loop", [False, True])
def test_attributes_are_those_of_the_members(many, loop):
    env = tiegym.as_vec_env(many(loop=loop))
    env.reset()
    assert [config.n_layer for config in env.get_attr("config")] == [3, 3, 3]
    assert len(env.get_attr("config", indices=[0, 2])) == 2
    env.set_attr("mine", 7)
    assert env.get_attr("mine", 1) == [7]
    with pytest.raises(ValueError, match=r"indices=\[0\].* all members"):
        env.set_attr("mine", 8, indices=[0])
    assert len(env.env_method("action_masks", indices=[1])) == 1
    with pytest.raises(AttributeError):
        env.get_attr("nothing")
    env.set_attr("mine", [1, 2])
    assert env.get_attr("mine") == [[1, 2]] * 3
    assert env.env_is_wrapped(Monitor) == [False] * 3
    env.set_options([{"run": 0}, {"run": 1}, {"run": 0}])
    with pytest.raises(ValueError, match="same for all members"):
        env.reset()
    env.close()


def test_a_method_is_called_of_the_chosen_members_alone(many):
    env = tiegym.as_vec_env(many(loop=True))
    env.reset()
    called = []
    env.set_attr("note", called.append)
    assert env.env_method("note", 5, indices=[2]) == [None]
    assert called == [5]
    assert env.env_method("note", 6) == [None] * 3
    assert called == [5, 6, 6, 6]
    env.close()


def test_processes_are_called_all_or_not_at_all(tree_file):
    env = tiegym.as_vec_env(
        gymnasium.vector.AsyncVectorEnv(
            [lambda: TieBench(str(tree_file))] * 2, autoreset_mode=AutoresetMode.SAME_STEP
        )
    )
    env.reset()
    assert len(env.env_method("action_masks")) == 2
    with pytest.raises(ValueError, match=r"indices=\[1\]: action_masks is called of all processes"):
        env.env_method("action_masks", indices=[1])
    env.close()
