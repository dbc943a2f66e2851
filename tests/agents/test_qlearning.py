"""The paper's agent: its update, its exploration, that it learns, and the program."""

import copy
import dataclasses
import json
import math
import runpy
import sys
import zipfile

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F

import tiegym  # noqa: F401 registers the environments
from agents.qlearning import Options, QLearning, main, train
from tests.agents.known_answer import KnownAnswer, greedy_ties
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


def make(env=None, **changes):
    return QLearning("LayerPolicy", env or KnownAnswer(), device="cpu", **{"seed": 0} | changes)


def seen(ties, layer):
    """A batch of one observation, as far as the agent looks at it."""
    env = KnownAnswer()
    observation, _ = env.reset(seed=0)
    observation |= {"ties": np.array(ties), "layer": np.int64(layer)}
    return {key: np.asarray(value)[None] for key, value in observation.items()}


# Learning


MORE_SEEDS = [pytest.param(seed, marks=pytest.mark.exhaustive) for seed in (2, 3)]


@pytest.mark.parametrize("seed", [0, 1, *MORE_SEEDS])
def test_it_finds_the_best_ties_with_the_papers_values(seed):
    env = KnownAnswer(sweeps=1, noise=0.3)
    model = make(env, seed=seed)
    assert greedy_ties(model, env) != env.best.tolist()
    model.learn(1000)
    assert greedy_ties(model, env) == env.best.tolist()


# The network


def test_the_network_is_the_papers():
    net = make().q_net.q_net
    assert [type(module) for module in net] == [nn.Linear, nn.ReLU, nn.Linear]
    assert [tuple(p.shape) for p in net.parameters()] == [(128, 5), (128,), (15, 128), (15,)]


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_layer_owns_its_slice_and_its_last_output_is_independence(shape):
    net = make().q_net
    for layer in range(5):
        observation = {
            "ties": torch.tensor([[0, 1, 0, 2, 4]]),
            "layer": torch.full((1, *shape), layer),
        }
        outputs = net.q_net(torch.tensor([0.0, 1.0, 0.0, 2.0, 4.0]))
        start = layer * (layer + 1) // 2
        expected = outputs[start : start + layer + 1]
        values = net(observation)[0]
        assert torch.equal(values[: layer + 1], expected)
        assert torch.equal(values[layer:], expected[-1].expand(5 - layer))


# The update


@pytest.mark.parametrize(
    ("settings", "done", "timeout"),
    [
        ({}, False, False),
        ({}, True, False),
        ({}, True, True),
        ({"bootstrap": "same-layer"}, False, False),
        ({"bootstrap": "same-layer"}, True, False),
        ({"reward_clip": 10.0}, False, False),
        ({"learning_rate": 1e-2, "weight_decay": 0.5, "gamma": 0.5}, False, False),
    ],
)
@pytest.mark.parametrize("reward", [-145.0, 145.0])
def test_the_update_is_that_of_plain_torch(settings, done, timeout, reward):
    model = make(**settings)
    model.learn(7)  # AdamW has a state by now
    plain = nn.Sequential(nn.Linear(5, 128), nn.ReLU(), nn.Linear(128, 15))
    plain.load_state_dict(model.q_net.q_net.state_dict())
    optimizer = torch.optim.AdamW(
        plain.parameters(),
        lr=settings.get("learning_rate", 1e-3),
        weight_decay=settings.get("weight_decay", 0.01),
    )
    # A copy: load_state_dict would share the moments with the agent's own optimiser.
    optimizer.load_state_dict(copy.deepcopy(model.policy.optimizer.state_dict()))

    ties, layer, action, following = (0, 0, 1, 1, 0), 3, 2, (0, 0, 1, 2, 0)
    model.replay_buffer.add(
        *(seen(ties, layer), seen(following, layer + 1), np.array([action])),
        *(np.array([reward]), np.array([done]), [{"TimeLimit.truncated": timeout}]),
    )
    model.train(gradient_steps=1, batch_size=1)

    slices = {3: slice(6, 10), 4: slice(10, 15)}
    clip = settings.get("reward_clip", math.inf)
    target = torch.tensor(min(max(reward, -clip), clip))
    if not done or timeout:  # a time limit of a wrapper is no end of the task
        best = plain(torch.tensor(following).float()).detach()
        best = best[slices[3 if settings.get("bootstrap") == "same-layer" else 4]].max()
        target = target + settings.get("gamma", 0.99) * best
    loss = F.mse_loss(plain(torch.tensor(ties).float())[6 + action], target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    for ours, theirs in zip(model.q_net.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_there_is_one_update_a_step_from_the_step_just_made():
    class SeesUpdates(QLearning):
        def train(self, gradient_steps, batch_size=1):
            batch = self.replay_buffer.sample(batch_size)
            updates.append((self.num_timesteps, int(batch.observations["layer"])))
            assert gradient_steps == batch_size == 1
            super().train(gradient_steps, batch_size)

    updates = []
    SeesUpdates("LayerPolicy", KnownAnswer(), seed=0, device="cpu").learn(9)
    assert updates == [(step + 1, step % 4 + 1) for step in range(9)]


# Exploration


def test_epsilon_falls_once_a_sweep_down_to_its_floor():
    class Notes(BaseCallback):
        def _on_step(self):
            epsilons.append(self.model.exploration_rate)  # of the action just taken
            return True

    epsilons = []
    model = make(epsilon_decay=0.5, epsilon_floor=0.2)
    model.learn(14, Notes())
    assert epsilons == [1.0] * 4 + [0.5] * 4 + [0.25] * 4 + [0.2] * 2
    epsilons.clear()
    model.learn(3, Notes(), reset_num_timesteps=False)
    assert epsilons == [0.2] * 3
    epsilons.clear()
    model.learn(5, Notes())
    assert epsilons == [1.0] * 4 + [0.5]


def test_the_papers_epsilon():
    model = make()
    rates = {0: 1.0, 3: 1.0, 4: 0.95, 40: 0.95**10, 4 * 89: 0.95**89, 4 * 90: 0.01, 10**6: 0.01}
    for step, rate in rates.items():
        model.num_timesteps = step
        assert model.epsilon() == pytest.approx(rate)


def test_exploration_is_uniform_over_the_choices_of_the_layer_and_each_row_explores_by_itself():
    model = make()
    model.exploration_rate = 1.0
    rows = 3000
    observation = {key: np.repeat(value, rows, 0) for key, value in seen([0] * 5, 2).items()}
    observation["layer"][: rows // 2] = 4
    actions, _ = model.predict(observation)
    assert np.bincount(actions[: rows // 2]) / (rows / 2) == pytest.approx([1 / 5] * 5, abs=0.04)
    assert np.bincount(actions[rows // 2 :]) / (rows / 2) == pytest.approx([1 / 3] * 3, abs=0.04)
    model.exploration_rate = 0.5
    greedy = model.predict(observation, deterministic=True)[0]
    changed = np.mean(model.predict(observation)[0] != greedy)
    assert changed == pytest.approx(0.5 * (4 / 5 + 2 / 3) / 2, abs=0.04)


# A Stable-Baselines3 algorithm


def all_actions(model):
    rng = np.random.default_rng(0)
    observations = [seen(rng.integers(0, np.arange(1, 6)), i % 4 + 1) for i in range(200)]
    return [int(model.predict(o, deterministic=True)[0][0]) for o in observations]


def test_save_and_load_give_the_same_actions(tmp_path):
    model = make(bootstrap="same-layer", reward_clip=3.0).learn(50)
    model.save(tmp_path / "agent.zip")
    loaded = QLearning.load(tmp_path / "agent.zip", device="cpu")
    assert all_actions(loaded) == all_actions(model)
    assert all_actions(loaded) != all_actions(make(seed=5))
    assert (loaded.bootstrap, loaded.reward_clip) == ("same-layer", 3.0)
    assert (loaded.num_timesteps, loaded.exploration_rate) == (50, model.exploration_rate)


def same_weights(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.q_net.parameters(), b.q_net.parameters(), strict=True)
    )


def test_learning_in_two_parts_is_learning_in_one():
    whole = make().learn(100)
    parts = make().learn(37)
    parts.learn(63, reset_num_timesteps=False)
    assert whole.num_timesteps == parts.num_timesteps == 100
    assert same_weights(whole, parts)
    assert not same_weights(whole, make(seed=1).learn(100))


def test_learning_goes_on_from_a_file_where_it_stopped(tmp_path):
    greedy = {"epsilon_decay": 0.0, "epsilon_floor": 0.0}  # after a sweep nothing is random
    whole = make(KnownAnswer(sweeps=1), **greedy).learn(60)
    make(KnownAnswer(sweeps=1), **greedy).learn(24).save(tmp_path / "agent.zip")
    rest = QLearning.load(tmp_path / "agent.zip", KnownAnswer(sweeps=1), device="cpu")
    rest.learn(36, reset_num_timesteps=False)
    assert same_weights(whole, rest)


def test_it_learns_from_several_environments_at_once():
    from stable_baselines3.common.vec_env import DummyVecEnv

    model = make(DummyVecEnv([KnownAnswer] * 3)).learn(30)
    assert model.num_timesteps == 30


def test_callbacks_that_evaluate_and_checkpoint_work(tmp_path):
    evaluate = EvalCallback(
        Monitor(KnownAnswer()),
        n_eval_episodes=2,
        eval_freq=10,
        log_path=str(tmp_path),
        best_model_save_path=str(tmp_path),
        verbose=0,
    )
    model = make().learn(30, [evaluate, CheckpointCallback(10, str(tmp_path))])
    assert np.load(tmp_path / "evaluations.npz")["results"].shape == (3, 2)
    QLearning.load(tmp_path / "best_model.zip", device="cpu")
    last = QLearning.load(tmp_path / "rl_model_30_steps.zip", device="cpu")
    assert last.num_timesteps == 30
    # Callbacks come before the update of the step.
    assert not same_weights(last, model)


@pytest.mark.parametrize("action", ["pair", "joint"])
def test_other_actions_are_refused(action):
    with pytest.raises(ValueError, match='needs action="layerwise", which is Discrete\\(5\\)'):
        make(KnownAnswer(action=action))
    with pytest.raises(ValueError, match=f"env.action='{action}': choose \"layerwise\""):
        Options(env=dataclasses.replace(ENV, action=action))


def test_other_environments_are_refused():
    with pytest.raises(ValueError, match="a Dict with ties and layer, not Box"):
        make(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bootstrap": "both"}, "choose one of next-layer, same-layer"),
        ({"reward_clip": 0.0}, "reward_clip=0.0 must be positive"),
        ({"epsilon_decay": 1.1}, r"epsilon_decay=1.1 must be in \[0, 1\]"),
        ({"epsilon_floor": -0.1}, r"epsilon_floor=-0.1 must be in \[0, 1\]"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        make(**values)
    with pytest.raises(ValueError, match=message):
        Options(**values)


# The program


def options(folder, **changes):
    return Options(runs_dir=folder, quiet=True, env=ENV, **changes)


def test_the_program_leaves_a_whole_run_and_the_agent(tmp_path):
    run = read_run(train(options(tmp_path, seed=3, reward_clip=4.0)))
    assert run.folder == tmp_path / "qlearning-seed3"
    assert run.summary["finished"]
    assert len(run.steps) == ENV.steps_per_episode
    assert run.config["program"] == "qlearning"
    assert run.config["options"]["reward_clip"] == 4.0
    model = QLearning.load(run.folder / "agent.zip", device="cpu")
    assert (model.num_timesteps, model.reward_clip) == (ENV.steps_per_episode, 4.0)
    events = EventAccumulator(str(run.folder / "agent")).Reload()
    assert len(events.Scalars("train/loss")) == ENV.steps_per_episode
    assert len(events.Scalars("rollout/exploration_rate")) == ENV.steps_per_episode

    # The transformer is that of the seed, whatever the agent draws.
    env = gymnasium.make("TieEnv-v0", **SMALL)
    env.reset(seed=3)
    assert [env.step(row["action"])[1] for row in run.steps] == [r["reward"] for r in run.steps]


def test_a_run_is_fixed_by_its_seed(tmp_path):
    def actions(**changes):
        return [row["action"] for row in read_run(train(options(tmp_path, **changes))).steps]

    first = actions(total_steps=8)  # into a second episode
    assert len(first) == 8
    assert actions(total_steps=8) == first
    assert actions(total_steps=8, seed=1) != first


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_the_command_line_says_where_the_run_is(tmp_path, capsys, monkeypatch):
    arguments = [f"--env.{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    monkeypatch.setattr(
        sys, "argv", ["qlearning", "--runs-dir", str(tmp_path), "--name=mine", *arguments]
    )
    runpy.run_module("agents.qlearning", run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"run folder: {tmp_path / 'mine'}"
    with zipfile.ZipFile(tmp_path / "mine" / "agent.zip") as archive:
        saved = json.loads(archive.read("data"))
    # Another program can load it: __main__ there is another module.
    assert saved["policy_class"]["__module__"] == "agents.qlearning_network"


def test_the_help_explains_every_option(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    for field in dataclasses.fields(Options):
        assert f"--{field.name.replace('_', '-')}" in text
    assert "research code has 10" in " ".join(text.split())
