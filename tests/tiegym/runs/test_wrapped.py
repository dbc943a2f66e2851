"""RecordRun around other people's wrappers: the rows are the run's own, episode by episode."""

import math

import gymnasium
import pytest
from gymnasium.wrappers import Autoreset, RecordEpisodeStatistics, TimeLimit
from stable_baselines3.common.monitor import Monitor

import tiegym
from tests.tiegym.small import SMALL
from tiegym.runs.folder import read_run

STEPS = SMALL["max_iters"] // SMALL["iters_per_step"]
TAKEN = ("episode", "step", "action", "reward", "terminated", "truncated", "seconds", "steps")


class Talkative(gymnasium.Wrapper):
    """Puts every name of a row into info, and ten times the reward outside."""

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, 10 * reward, terminated, truncated, info | dict.fromkeys(TAKEN, "x")


class ResetsAtOnce(gymnasium.Wrapper):
    """Resets in the very step that ends an episode, and hides the end."""

    def step(self, action):
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated:
            self.env.reset()
        return observation, reward, False, truncated, info


def make():
    return gymnasium.make("TieEnv-v0", **SMALL)


def record(env, folder, episodes=2, resets=True, steps=STEPS):
    env = tiegym.RecordRun(env, folder, {"program": "mine", "options": {"seed": 0}})
    env.reset(seed=0)
    rewards = []
    for _ in range(episodes):
        rewards += [float(env.step(1)[1]) for _ in range(steps)]
        if resets:
            env.reset()
    env.close()
    return read_run(folder), rewards


@pytest.mark.parametrize("wrapper", [RecordEpisodeStatistics, Monitor, Talkative])
def test_infos_of_other_wrappers_take_no_column_of_the_row(tmp_path, wrapper):
    run, rewards = record(wrapper(make()), tmp_path / "run")
    assert [row["episode"] for row in run.steps] == [0] * STEPS + [1] * STEPS
    assert [row["step"] for row in run.steps] == 2 * list(range(1, STEPS + 1))
    assert [row["reward"] for row in run.steps] == rewards
    assert [row["terminated"] for row in run.steps] == 2 * ([False] * (STEPS - 1) + [True])
    assert [e["episode"] for e in run.summary["episodes"]] == [0, 1]
    assert [e["steps"] for e in run.summary["episodes"]] == [STEPS, STEPS]
    assert run.summary["final"]["return"] == pytest.approx(sum(rewards[STEPS:]))


def test_a_reset_inside_a_step_begins_an_episode_and_has_no_row(tmp_path):
    run, _ = record(Autoreset(make()), tmp_path / "run", resets=False, steps=STEPS + 1)
    assert [row["episode"] for row in run.steps] == [0] * STEPS + [1] * STEPS
    assert [row["step"] for row in run.steps] == 2 * list(range(1, STEPS + 1))
    assert all(row["iteration"] > 0 for row in run.steps)
    assert [e["steps"] for e in run.summary["episodes"]] == [STEPS, STEPS]


def test_episodes_that_a_wrapper_hides_do_not_run_together(tmp_path):
    env = TimeLimit(ResetsAtOnce(make()), 2 * STEPS)
    run, _ = record(env, tmp_path / "run", resets=False)
    assert [row["episode"] for row in run.steps] == [0] * STEPS + [1] * STEPS


def test_figures_that_are_not_there_yet_are_left_out_of_rows(tmp_path):
    class FixedKeys(gymnasium.Wrapper):
        def step(self, action):
            *rest, info = self.env.step(action)
            return *rest, {"test_perplexity": math.nan, "test_bits_per_byte": math.nan} | info

    run, _ = record(FixedKeys(make()), tmp_path / "run", episodes=1)
    assert ["test_perplexity" in row for row in run.steps] == [False] * (STEPS - 1) + [True]
    assert run.summary["final"]["test_perplexity"] > 0
