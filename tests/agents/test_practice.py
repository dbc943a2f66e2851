"""Pretraining on transformers that are trained together: what is learnt, counted and resumed."""

from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import pytest
import torch

from agents import decision_s4, dqn, maskable_ppo, pairwise, ppo, qlearning, recurrent_ppo
from agents.protocols import PRETRAINING_SEEDS
from agents.saved_agents import read_agent
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.population import TiePopulation
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)
STEPS = ENV.steps_per_episode


def options_for(program, tmp_path, **changes):
    rollouts = {} if program in (dqn, qlearning, decision_s4) else {"n_steps": 4, "n_epochs": 2}
    values = {"seed": 3, "runs_dir": tmp_path, "quiet": True, "env": ENV, "envs": 2}
    return program.Options(**values | {"pretrain_runs": 4} | rollouts | changes)


@pytest.mark.parametrize(
    "program",
    [ppo, maskable_ppo, recurrent_ppo, dqn, pairwise, qlearning, decision_s4],
    ids=lambda module: module.__name__.removeprefix("agents."),
)
def test_agents_learn_from_runs_at_a_time_then_play_one(program, tmp_path):
    run = read_run(program.train(options_for(program, tmp_path)))
    assert run.config["protocol"] == "pretrained"
    assert run.config["options"]["envs"] == 2
    assert len(run.steps) == STEPS == run.summary["steps"]
    assert run.summary["extra_iterations"] == 4 * ENV.max_iters  # of all members
    assert run.summary["episodes"][0]["seed"] == 3
    learned = read_agent(run.folder / "agent.safetensors")
    assert learned.values["num_timesteps"] == 4 * STEPS


def test_members_have_seeds_that_no_reported_run_has_nor_another_pretraining(tmp_path, monkeypatch):
    seen = []
    reset = TiePopulation.reset

    def watched(self, *, seed=None, options=None):
        seen.append(seed)
        return reset(self, seed=seed, options=options)

    monkeypatch.setattr(TiePopulation, "reset", watched)
    ppo.train(options_for(ppo, tmp_path))
    assert seen == [[PRETRAINING_SEEDS + 3, 2 * PRETRAINING_SEEDS + 3]]


def test_pretraining_never_reads_the_test_split(tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr("tiegym.training.population.Population.test_losses", never)
    assert read_run(ppo.train(options_for(ppo, tmp_path))).summary["finished"]


@pytest.mark.parametrize("program", [maskable_ppo, dqn], ids=["maskable_ppo", "dqn"])
@pytest.mark.parametrize("checkpoint_every_steps", [None, 4])
def test_a_run_that_was_cut_off_while_pretraining_goes_on_bit_by_bit(
    program, checkpoint_every_steps, tmp_path, monkeypatch
):
    whole = read_run(program.train(options_for(program, tmp_path, name="whole")))
    options = options_for(
        program, tmp_path, name="cut", checkpoint_every_steps=checkpoint_every_steps
    )
    step, calls = TiePopulation.step, []

    def dies(self, actions):
        calls.append(actions)
        if len(calls) > STEPS + 2:  # in the second episode
            raise ZeroDivisionError
        return step(self, actions)

    with monkeypatch.context() as patch:
        patch.setattr(TiePopulation, "step", dies)
        with pytest.raises(ZeroDivisionError):
            program.train(options)
    resumed = []
    monkeypatch.setattr(TiePopulation, "step", lambda self, a: resumed.append(a) or step(self, a))
    run = read_run(program.train(dataclasses.replace(options, resume=tmp_path / "cut")))
    all_steps = 2 * STEPS
    assert len(resumed) == (all_steps if checkpoint_every_steps is None else all_steps - STEPS - 2)
    assert run.summary["extra_iterations"] == whole.summary["extra_iterations"]
    for key in ("action", "val_loss"):
        assert [row[key] for row in run.steps] == [row[key] for row in whole.steps]
    learned, same = (read_agent(r.folder / "agent.safetensors").weights for r in (run, whole))
    assert learned.keys() == same.keys()
    assert all(torch.equal(learned[key], same[key]) for key in learned)


def test_a_stop_is_heard_while_it_pretrains(tmp_path, monkeypatch, capsys):
    step = TiePopulation.step

    def stops(self, actions):
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, actions)

    arguments = [f"--env.{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    arguments += ["--envs=2", "--pretrain-runs=2", "--n-steps=4", "--quiet"]
    monkeypatch.setattr(TiePopulation, "step", stops)
    with pytest.raises(SystemExit) as ended:
        ppo.main([*arguments, "--runs-dir", str(tmp_path)])
    assert ended.value.code == 128 + signal.SIGTERM
    assert "--resume" in capsys.readouterr().err
    monkeypatch.undo()
    (folder,) = tmp_path.iterdir()
    assert [*folder.glob("checkpoint-*.safetensors")]
    ppo.main(["--resume", str(folder)])
    assert read_run(folder).summary["extra_iterations"] == 2 * ENV.max_iters


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain_runs": 0}, "envs=2 are runs to learn from before the recorded one"),
        ({"pretrain_runs": 3}, "pretrain_runs=3 is no multiple of envs=2.*: take 4"),
        ({"env": dataclasses.replace(ENV, compile=True)}, "compile=True.*TieEnv-v0"),
    ],
)
def test_what_cannot_be_is_an_error_at_once(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        options_for(ppo, tmp_path, **changes)


def test_iterations_are_counted_where_members_end_early(tmp_path):
    env = dataclasses.replace(ENV, learning_rate=0.03, divergence_loss=5.56)
    run = read_run(ppo.train(options_for(ppo, tmp_path, env=env, pretrain_runs=2)))
    assert 0 < run.summary["extra_iterations"] <= 2 * np.int64(env.max_iters)
