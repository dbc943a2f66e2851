"""What other libraries ask of the environment: vectors, masks, fixed keys, one line a step."""

import math
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.wrappers import FlattenObservation
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.monitor import Monitor

import tiegym
from tests.tiegym.small import SMALL

ACTIONS = ("layerwise", "pair", "joint")


@pytest.mark.parametrize("action", ACTIONS)
def test_the_flat_environment_is_the_other_one_flattened(action):
    flat = gymnasium.make("TieEnvFlat-v0", **SMALL, action=action)
    other = FlattenObservation(gymnasium.make("TieEnv-v0", **SMALL, action=action))
    assert flat.observation_space == other.observation_space
    assert flat.observation_space.dtype == np.float32
    assert isinstance(flat.observation_space, gymnasium.spaces.Box)
    other.action_space.seed(0)
    mine, its = flat.reset(seed=3), other.reset(seed=3)
    terminated = False
    while not terminated:
        assert mine[0].dtype == np.float32
        assert np.array_equal(mine[0], its[0])
        action = other.action_space.sample()
        mine, its = flat.step(action), other.step(action)
        assert mine[1:4] == its[1:4]
        terminated = its[2]
    twin = flat.unwrapped.fork()
    assert twin.reset(seed=0)[0].shape == mine[0].shape


def test_the_flat_environment_is_rebuilt_by_its_spec():
    env = gymnasium.make("TieEnvFlat-v0", **SMALL)
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.observation_space == env.observation_space


@pytest.mark.parametrize("name", ["TieEnv-v0", "TieEnvFlat-v0"])
@pytest.mark.parametrize("action", ACTIONS)
def test_infos_have_the_same_keys_and_types_at_reset_and_at_every_step(name, action):
    env = gymnasium.make(name, **SMALL, action=action)
    env.action_space.seed(0)
    _, first = env.reset(seed=0)
    terminated, info = False, first
    while not terminated:
        assert info["test_perplexity"] == info["test_bits_per_byte"] == math.inf
        *_, terminated, _, info = env.step(env.action_space.sample())
        assert {k: type(v) for k, v in info.items()} == {k: type(v) for k, v in first.items()}
    assert 1 < info["test_perplexity"] < 300


def test_monitor_may_ask_for_the_test_figures_of_an_episode_that_is_cut_off():
    inner = gymnasium.wrappers.TimeLimit(gymnasium.make("TieEnv-v0", **SMALL), 2)
    env = Monitor(inner, info_keywords=("test_perplexity", "perplexity"))
    env.reset(seed=0)
    env.step(1)
    info = env.step(1)[4]
    assert info["episode"]["test_perplexity"] == math.inf


def test_rows_have_the_test_figures_at_the_end_alone(tmp_path):
    env = tiegym.RecordRun(gymnasium.make("TieEnv-v0", **SMALL), tmp_path / "run", {})
    env.reset(seed=0)
    while not env.step(1)[2]:
        pass
    env.close()
    run = tiegym.read_run(tmp_path / "run")
    assert all("test_perplexity" not in row for row in run.steps[:-1])
    assert math.isfinite(run.steps[-1]["test_perplexity"])
    env = gymnasium.wrappers.TimeLimit(gymnasium.make("TieEnv-v0", **SMALL), 2)
    env = tiegym.RecordRun(env, tmp_path / "cut", {})
    env.reset(seed=0)
    while not env.step(1)[3]:
        pass
    env.close()
    cut = tiegym.read_run(tmp_path / "cut")
    assert cut.summary["final"].get("test_perplexity") is None
    assert "test_perplexity" not in cut.steps[0]


@pytest.mark.parametrize("keys", [(), ("obs", "mask")])
@pytest.mark.parametrize("action", ACTIONS)
def test_the_mask_is_in_the_observation(action, keys):
    env = tiegym.MaskInObservation(gymnasium.make("TieEnv-v0", **SMALL, action=action), *keys)
    of_observation, of_mask = keys or ("observations", "action_mask")
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    for _ in range(4):
        assert env.observation_space.contains(observation)
        assert list(observation) == [of_observation, of_mask]
        expected = env.unwrapped.action_masks()
        assert observation[of_mask].dtype == np.int8
        assert np.array_equal(observation[of_mask], expected)
        inner = observation[of_observation]
        assert inner["ties"].tolist() == env.unwrapped.ties.tolist()
        observation = env.step(env.action_space.sample())[0]


def test_the_mask_goes_with_flat_observations_checkers_and_specs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*is different from the unwrapped version")
        env = tiegym.MaskInObservation(gymnasium.make("TieEnvFlat-v0", **SMALL))
        sb3_check_env(env)
        gymnasium_check_env(env, skip_render_check=True)
    written = env.spec.to_json()
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(written))
    assert again.observation_space == env.observation_space
    with pytest.raises(ValueError, match="both 'x'"):
        tiegym.MaskInObservation(env, "x", "x")


def test_rllibs_way_to_mask_logits_leaves_the_allowed_actions():
    env = tiegym.MaskInObservation(gymnasium.make("TieEnvFlat-v0", **SMALL))
    observation, _ = env.reset(seed=0)
    batch = {key: torch.from_numpy(value)[None] for key, value in observation.items()}
    # As RLlib's example ActionMaskingRLModule does it.
    logits = torch.nn.Linear(batch["observations"].shape[1], 4)(batch["observations"])
    inf_mask = torch.clamp(torch.log(batch["action_mask"]), min=torch.finfo(torch.float32).min)
    probabilities = torch.softmax(logits + inf_mask, 1)[0]
    assert (probabilities > 0).tolist() == [True, True, False, False]


def test_tianshous_way_to_mask_values_leaves_the_allowed_actions():
    env = tiegym.MaskInObservation(gymnasium.make("TieEnvFlat-v0", **SMALL), "obs", "mask")
    observation, _ = env.reset(seed=0)
    values = np.array([-3.0, -2.0, 5.0, 4.0])
    # As Tianshou's DQNPolicy.compute_q_value does it.
    minimum = values.min() - values.max() - 1.0
    masked = values + (1 - observation["mask"]) * minimum
    assert masked.argmax() == 1


@pytest.mark.parametrize("action", ACTIONS)
def test_maskable_ppo_learns_on_every_action_space(action):
    env = gymnasium.make("TieEnvFlat-v0", **SMALL, action=action)
    model = MaskablePPO("MlpPolicy", env, n_steps=4, batch_size=4, n_epochs=1, seed=0)
    before = model.policy.action_net.weight.detach().clone()
    model.learn(8)
    assert not model.policy.action_net.weight.equal(before)


def test_recurrent_ppo_learns_on_the_flat_environment():
    env = gymnasium.make("TieEnvFlat-v0", **SMALL)
    model = RecurrentPPO("MlpLstmPolicy", env, n_steps=4, batch_size=4, n_epochs=1, seed=0)
    before = model.policy.action_net.weight.detach().clone()
    model.learn(8)
    assert not model.policy.action_net.weight.equal(before)


def test_human_mode_prints_one_line_a_step(capsys):
    env = gymnasium.make("TieEnv-v0", **SMALL, render_mode="human")
    for _ in range(2):  # a new episode with the same figures is printed again
        env.reset(seed=0)
        capsys.readouterr()
        env.render()
        assert capsys.readouterr().out.count("\n") == 1
        for _ in range(2):
            env.step(1)
            env.render()
            assert capsys.readouterr().out.count("\n") == 1
