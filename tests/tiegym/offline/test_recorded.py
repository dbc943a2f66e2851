"""Run folders as trajectories: the very observations that the environment gave."""

import dataclasses
import json
import math

import numpy as np
import pytest

from agents import evolution
from baselines import random_tying
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.offline.recorded import find_first_loss, trajectories_of
from tiegym.offline.trajectories import check_same, join
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


def record(folder, env=ENV, **changes):
    options = random_tying.Options(runs_dir=folder, quiet=True, env=env, seed=5, **changes)
    return random_tying.train(options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of one episode."""
    return record(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"action": "pair", "initial_ties": "cycle:2"},
        {"action": "joint", "tokenizer": "word"},
        {"tie_parts": "attention+mlp", "choices": "tie+freeze"},
        {"learning_rate": 1e6, "divergence_loss": 6.0, "grad_clip": 0.0},  # it diverges
    ],
)
def test_observations_are_rebuilt_to_the_bit_but_for_layer_stats(tmp_path, changes):
    env = dataclasses.replace(ENV, **changes)
    run = read_run(record(tmp_path, env))
    loss = find_first_loss(run.config["env"], run.config["corpus_sha256"])
    found = trajectories_of(run, loss)
    episode = found.episodes[0]
    real = TieEnv(**dataclasses.asdict(env))
    observation, _ = real.reset(seed=episode.seed)
    for step, action in enumerate([*episode.actions, None]):
        assert episode.observations.keys() == observation.keys() - {"layer_stats"}
        for name, values in episode.observations.items():
            np.testing.assert_array_equal(values[step], observation[name])
            assert found.spaces[0][name] == real.observation_space[name]
        if action is not None:
            observation, reward, ended, _, _ = real.step(action)
            assert reward == episode.rewards[step]
    assert ended
    assert found.iterations >= episode.observations["budget"][-1, 0] * env.max_iters
    if len(found.episodes) > 1:  # those that diverge are short
        assert episode.observations["loss"].max() == 6.0


def test_whole_episodes_alone_count_and_all_iterations_are_counted(tmp_path):
    run = read_run(record(tmp_path, total_steps=15))  # two episodes and a half
    found = trajectories_of(run, math.log(256))
    assert [len(one.actions) for one in found.episodes] == [6, 6]
    assert found.iterations == 2 * ENV.max_iters + 6
    cut = dataclasses.replace(run, steps=run.steps[12:])
    with pytest.raises(InputError, match="has no whole episode"):
        trajectories_of(cut, math.log(256))


def test_the_seed_of_a_run_that_no_summary_tells_is_that_of_its_program(tmp_path):
    run = read_run(record(tmp_path, total_steps=15))
    assert [one.seed for one in trajectories_of(run, math.log(256)).episodes] == [5, None]
    cut_off = dataclasses.replace(run, summary=None)
    assert [one.seed for one in trajectories_of(cut_off, math.log(256)).episodes] == [5, None]


def test_iterations_before_the_run_are_counted_too(tmp_path):
    options = evolution.Options(
        runs_dir=tmp_path, quiet=True, env=ENV, population=2, sample=1, evaluations=3, budget=3
    )
    run = read_run(evolution.train(options))
    found = trajectories_of(run, math.log(256))
    assert found.iterations == ENV.max_iters + run.summary["extra_iterations"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda env, rows: env.update(model="llama"), "model='llama': only of our own"),
        (lambda env, rows: env.update(n_layer=5), "none of its environment: .*layers"),
        (lambda env, rows: env.update(n_layer="x"), "no TieEnv has such arguments: n_layer"),
        (lambda env, rows: rows[2].update(val_loss=None), "a step has no val_loss"),
        (lambda env, rows: rows[2].update(action=99), r"an action isn't in Discrete\(4\)"),
        (lambda env, rows: rows[2].update(action="1"), r"an action isn't in Discrete\(4\)"),
        (lambda env, rows: rows[2].update(reward=[1]), "none of its environment"),
        (lambda env, rows: rows[2].update(ties=[0, 1, 2, 3, 0]), "none of its environment"),
        (lambda env, rows: env.update(max_iters=4), "it has more steps than 2"),
        (lambda env, rows: env.update(choices="tie+freeze"), "a step has no frozen"),
        (lambda env, rows: rows.pop(2), "steps are missing"),
        (lambda env, rows: rows[1].update(iteration=10**9), "iterations must rise"),
        (lambda env, rows: rows[1].update(iteration=0), "iterations must rise"),
    ],
)
def test_rows_that_say_too_little_are_refused(folder, edit, message):
    run = read_run(folder)
    edit(run.config["env"], run.steps)
    with pytest.raises(InputError, match=message):
        trajectories_of(run, math.log(256))


def test_the_first_loss_is_that_of_a_uniform_guess_and_no_recorded_path_is_read():
    env = {"tokenizer": "bytes", "corpus": "/etc"}
    assert find_first_loss(env, None) == math.log(256)
    with pytest.raises(InputError, match="the corpus '/etc', which may be a path"):
        find_first_loss({**env, "tokenizer": "word"}, None)
    with pytest.raises(InputError, match=r"the tokenizer '/etc/t\.json', which may be a path"):
        find_first_loss({"tokenizer": "/etc/t.json", "corpus": "synthetic:20000"}, None)
    with pytest.raises(InputError, match="and the run's had 0"):
        find_first_loss({"tokenizer": "word", "corpus": "synthetic:20000"}, "0")


def test_trajectories_of_two_environments_are_not_joined(folder):
    one = trajectories_of(read_run(folder), math.log(256))
    both = join([one, one])
    assert len(both.episodes) == 2
    assert both.iterations == 2 * one.iterations
    other = dataclasses.replace(one, env=json.loads(json.dumps(one.env)) | {"tie_grad": "sum"})
    with pytest.raises(InputError, match="are of tie_grad='sum', and not of 'owner'"):
        join([one, other])
    check_same(one, one.env | {"reward": "neg_ppl", "device": "cuda"}, one.corpus_sha256)
    with pytest.raises(InputError, match="of a text with sha256"):
        check_same(one, one.env, "another")
