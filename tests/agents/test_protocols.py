"""Both protocols with each agent of Stable-Baselines3: records, seeds, steps, and costs."""

import contextlib
import dataclasses
import io
import math
from typing import get_args

import gymnasium
import numpy as np
import pytest
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor

import tiegym  # noqa: F401 registers the environments
from agents import dqn, maskable_ppo, pairwise, ppo, recurrent_ppo
from agents.agent_options import AgentOptions
from agents.protocols import PRETRAINING_SEEDS, Greedy, Practice, train_agent
from agents.reward_differences import RewardDifferences, level_free
from tests.agents.known_answer import KnownAnswer
from tests.tiegym.small import SMALL
from tiegym.config import Reward, TieConfig
from tiegym.env import TieEnv
from tiegym.runs.options import parse_options
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)
STEPS = ENV.steps_per_episode
PROGRAMS = {
    ppo: PPO,
    maskable_ppo: MaskablePPO,
    recurrent_ppo: RecurrentPPO,
    pairwise: PPO,
    dqn: DQN,
}
every_program = pytest.mark.parametrize(
    "program", PROGRAMS, ids=lambda module: module.__name__.removeprefix("agents.")
)


def options_for(program, tmp_path, **changes):
    return program.Options(
        **{"seed": 3, "runs_dir": tmp_path, "quiet": True, "env": ENV}
        | rollouts_of(program, 4)
        | changes
    )


def rollouts_of(program, steps):
    """Options for short rollouts; DQN learns after each step anyway."""
    return {} if program is dqn else {"n_steps": steps, "n_epochs": 2}


def replayed(rows, seed):
    """Validation losses under recorded actions, in a fresh environment."""
    env = gymnasium.make("TieEnv-v0", **SMALL)
    env.reset(seed=seed)
    losses = []
    for row in rows:
        _, _, terminated, _, info = env.step(np.int64(row["action"]))
        losses.append(info["val_loss"])
        if terminated:
            env.reset()
    return losses


@every_program
def test_an_online_run_has_its_seed_and_exactly_its_steps(tmp_path, program):
    run = read_run(program.train(options_for(program, tmp_path)))
    assert run.config["protocol"] == "online"
    assert run.config["options"]["pretrain_runs"] == 0
    assert len(run.steps) == STEPS == run.summary["steps"]
    assert run.summary["finished"]
    assert run.summary["episodes"][0]["seed"] == 3
    assert "extra_iterations" not in run.summary
    assert [row["val_loss"] for row in run.steps] == replayed(run.steps, seed=3)
    assert list((run.folder / "agent").glob("events.out.tfevents*"))
    assert PROGRAMS[program].load(run.folder / "agent.zip").num_timesteps == STEPS


@every_program
def test_a_pretrained_run_is_greedy_and_counts_what_was_spent_before(tmp_path, program):
    options = options_for(program, tmp_path, pretrain_runs=2)
    run = read_run(program.train(options))
    assert run.config["protocol"] == "pretrained"
    assert run.summary["extra_iterations"] == 2 * ENV.max_iters
    assert len(run.steps) == STEPS == run.summary["steps"]
    assert run.summary["finished"]
    assert run.summary["episodes"][0]["seed"] == 3
    assert [row["val_loss"] for row in run.steps] == replayed(run.steps, seed=3)

    model = PROGRAMS[program].load(run.folder / "agent.zip")
    assert model.num_timesteps == 2 * STEPS
    env = gymnasium.make("TieEnv-v0", **SMALL)
    policy, (observation, _) = Greedy(model, env), env.reset(seed=3)
    state, start = None, True
    for row in run.steps:
        action, state = policy.predict(observation, state, np.array([start]))
        assert action == row["action"]
        observation, *_ = env.step(action)
        start = False


def test_pretraining_has_seeds_of_its_own_and_never_reads_the_test_split(tmp_path, monkeypatch):
    seeds, tests = [], []
    reset, test_metrics = TieEnv.reset, TieEnv.test_metrics

    def spied_reset(self, *, seed=None, options=None):
        seeds.append(seed)
        return reset(self, seed=seed, options=options)

    def spied_test(self):
        tests.append(len(seeds))
        return test_metrics(self)

    monkeypatch.setattr(TieEnv, "reset", spied_reset)
    monkeypatch.setattr(TieEnv, "test_metrics", spied_test)
    run = read_run(ppo.train(options_for(ppo, tmp_path, pretrain_runs=2)))
    assert [seed for seed in seeds if seed is not None] == [PRETRAINING_SEEDS + 3, 3]
    assert tests == [seeds.index(3) + 1]  # once, and after the reset of the reported run
    assert "test_perplexity" in run.summary["final"]


def test_pretraining_differs_between_seeds_and_is_the_same_for_one(tmp_path):
    def learnt(name, seed):
        options = options_for(ppo, tmp_path, name=name, seed=seed, n_steps=3, pretrain_runs=1)
        weights = PPO.load(ppo.train(options) / "agent.zip").policy.state_dict()
        return np.concatenate([w.numpy().ravel() for w in weights.values()])

    first, again, other = learnt("a", 0), learnt("b", 0), learnt("c", 1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("n_steps", "updates"), [(2, 3), (3, 2), (4, 1), (6, 1), (7, 0)])
def test_a_full_rollout_is_learnt_from_and_the_rest_of_the_run_is_not(tmp_path, n_steps, updates):
    folder = ppo.train(options_for(ppo, tmp_path, n_steps=n_steps, n_epochs=1))
    assert PPO.load(folder / "agent.zip")._n_updates == updates
    assert len(read_run(folder).steps) == STEPS


@pytest.mark.parametrize("total_steps", [5, 9])
def test_a_run_may_have_more_or_fewer_steps_than_an_episode(tmp_path, total_steps):
    if total_steps < STEPS:
        options = options_for(ppo, tmp_path, n_steps=2, total_steps=total_steps)
        assert len(read_run(ppo.train(options)).steps) == total_steps
        return
    for runs in (0, 1):
        options = options_for(ppo, tmp_path, n_steps=2, total_steps=total_steps, pretrain_runs=runs)
        run = read_run(ppo.train(options))
        assert [row["episode"] for row in run.steps] == [0] * STEPS + [1] * (total_steps - STEPS)
        assert run.summary["finished"]


@pytest.mark.parametrize("runs", [0, 1])
def test_off_policy_agents_take_part_in_both_protocols(tmp_path, runs):
    def make_model(env):
        return DQN("MultiInputPolicy", env, train_freq=4, learning_starts=0, buffer_size=10)

    options = AgentOptions(seed=4, runs_dir=tmp_path, quiet=True, env=ENV, pretrain_runs=runs)
    run = read_run(train_agent(options, "dqn-example", make_model))
    assert len(run.steps) == STEPS
    assert run.summary["episodes"][0]["seed"] == 4
    assert run.summary.get("extra_iterations", 0) == runs * ENV.max_iters
    assert DQN.load(run.folder / "agent.zip").num_timesteps == STEPS


def test_practice_counts_the_iterations_of_runs_that_end_early_too():
    env = gymnasium.make("TieEnv-v0", **SMALL | {"learning_rate": 1e3, "divergence_loss": 7.0})
    practice = Practice(env.unwrapped)
    expected = 0
    for seed in (0, 1):
        practice.reset(seed=seed)
        terminated = False
        while not terminated:
            *_, terminated, _, info = practice.step(1)
        assert info["diverged"]
        assert info["test_perplexity"] == math.inf  # it was not read
        expected += info["iteration"]
    assert practice.iterations == expected < 2 * SMALL["max_iters"]
    practice.close()
    env.reset(seed=0)
    assert "test_perplexity" in env.unwrapped.test_metrics()


def test_reward_differences_are_the_change_since_the_last_step_of_the_episode():
    class Levels(gymnasium.Env):
        action_space = observation_space = gymnasium.spaces.Discrete(2)

        def reset(self, levels=None, **_):
            self.levels = iter([-5.0, -3.0, -4.0]) if levels is None else levels
            return 0, {}

        def step(self, action):
            return 0, next(self.levels), False, False, {}

    env = RewardDifferences(Levels())
    env.reset()
    assert [env.step(0)[1] for _ in range(3)] == [0.0, 2.0, -1.0]
    env.reset()
    assert env.step(0)[1] == 0.0  # as good as the first step of the episode before
    env.reset(levels=iter([-4.0]))
    assert env.step(0)[1] == 1.0  # better than it


@pytest.mark.parametrize("reward", get_args(Reward))
def test_agents_learn_from_first_differences_whatever_the_reward(reward):
    options = dqn.Options(env=TieConfig(**SMALL, reward=reward))
    wrapped = level_free(KnownAnswer(), options)
    assert isinstance(wrapped, RewardDifferences) == (not reward.startswith("delta_"))
    as_it_is = dataclasses.replace(options, reward_differences=False)
    assert not isinstance(level_free(KnownAnswer(), as_it_is), RewardDifferences)


def test_the_agent_logs_the_rewards_of_the_environment_and_its_own_losses(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = read_run(ppo.train(options_for(ppo, tmp_path, n_steps=3, total_steps=2 * STEPS)))
    events = EventAccumulator(str(run.folder / "agent"))
    events.Reload()
    assert {"rollout/ep_rew_mean", "train/loss", "train/value_loss"} <= set(
        events.Tags()["scalars"]
    )
    logged = events.Scalars("rollout/ep_rew_mean")[0].value
    assert logged == pytest.approx(run.summary["episodes"][0]["return"], rel=1e-5)
    assert [event.step for event in events.Scalars("train/loss")][-1] == 2 * STEPS


@every_program
def test_saving_and_loading_gives_the_same_actions(tmp_path, program):
    env = KnownAnswer()
    model = program.make_model(
        program.Options(seed=0, env=env.config, **rollouts_of(program, 12)), env
    )
    model.learn(24)
    model.save(tmp_path / "agent.zip")
    loaded = PROGRAMS[program].load(tmp_path / "agent.zip")
    policies = Greedy(model, env), Greedy(loaded, env)
    observation, _ = env.reset(seed=0)
    states, start, done = [None, None], True, False
    while not done:
        (action, states[0]), (same, states[1]) = (
            policy.predict(observation, state, np.array([start]))
            for policy, state in zip(policies, states, strict=True)
        )
        assert action == same
        observation, _, done, _, _ = env.step(action)
        start = False


@every_program
def test_callbacks_evaluate_and_save_while_it_learns(tmp_path, program):
    env = KnownAnswer()
    model = program.make_model(program.Options(env=env.config, **rollouts_of(program, 6)), env)
    evaluation = EvalCallback(
        Monitor(KnownAnswer()),
        best_model_save_path=str(tmp_path / "best"),
        eval_freq=10,
        n_eval_episodes=1,
        verbose=0,
    )
    model.learn(24, [CheckpointCallback(10, str(tmp_path / "saved")), evaluation])
    assert np.isfinite(evaluation.best_mean_reward)
    assert (tmp_path / "best" / "best_model.zip").is_file()
    names = sorted(path.name for path in (tmp_path / "saved").iterdir())
    assert names == ["rl_model_10_steps.zip", "rl_model_20_steps.zip"]
    assert PROGRAMS[program].load(tmp_path / "saved" / names[1]).num_timesteps == 20


@every_program
def test_the_program_prints_its_run_folder_last(tmp_path, program, capsys):
    small = [f"--env.{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    program.main(["--seed=5", f"--runs-dir={tmp_path}", "--quiet", *small])
    (folder,) = tmp_path.iterdir()
    assert folder.name.endswith("-seed5")
    assert capsys.readouterr().out.splitlines()[-1] == f"run folder: {folder}"


@every_program
def test_help_documents_every_option(program, capsys):
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        parse_options(program.Options, ["--help"])
    text = " ".join(text.getvalue().replace("│", " ").split())
    for option in dataclasses.fields(program.Options):
        if option.name != "env":
            assert f"--{option.name.replace('_', '-')}" in text
    for documented in (
        "of other seeds, over which the agent learns",
        "Of the agent's Adam",
        "environment steps ahead",
        "Learn from the change of the reward",
    ):
        assert documented in text


def test_a_negative_number_of_pretraining_runs_is_refused():
    with pytest.raises(ValueError, match=r"pretrain_runs=-1 must be"):
        AgentOptions(pretrain_runs=-1)


@pytest.mark.parametrize("gamma", [0.0, 0.7, 1.0])
def test_differences_add_up_to_levels_of_which_the_last_is_kept_for_ever(gamma):
    levels = np.random.default_rng(0).normal(
        size=9
    )  # r_0, which the first is compared with, to r_T
    k = np.arange(8)
    differences = (gamma**k * np.diff(levels)).sum()
    kept = (1 - gamma) * (gamma**k * levels[1:]).sum() + gamma**8 * levels[-1] - levels[0]
    assert differences == pytest.approx(kept)


def test_differences_can_prefer_another_policy_than_the_levels():
    def worth(rewards):
        return rewards[0] + 0.7 * rewards[1]

    def differences(levels):
        return np.diff([0.0, *levels])

    early, late = (1.0, 0.0), (0.0, 1.0)
    assert worth(early) > worth(late)
    assert worth(differences(late)) > worth(differences(early))
    assert "another aim" in RewardDifferences.__doc__
