"""Agents in files: the same agent comes back, and nothing that is read can run code."""

import dataclasses
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from agents import decision_s4, dqn, maskable_ppo, pairwise, ppo, qlearning, recurrent_ppo
from agents.protocols import Greedy
from agents.saved_agents import AGENT_FILE, read_agent, save_agent
from tests.agents.known_answer import KnownAnswer
from tests.runs import facts
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run
from tiegym.transformer.tensor_file import write_tensors

ENV = TieConfig(**SMALL)
PROGRAMS = (dqn, ppo, maskable_ppo, recurrent_ppo, pairwise, qlearning, decision_s4)


def options(folder, **changes):
    return pairwise.Options(
        **{"runs_dir": folder, "quiet": True, "env": ENV, "n_steps": 4, "n_epochs": 1} | changes
    )


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_an_agent_comes_back_with_its_optimiser_and_learns_on(tmp_path, program):
    env = KnownAnswer()
    small = {} if program in (dqn, qlearning, decision_s4) else {"n_steps": 6, "n_epochs": 2}
    chosen = program.Options(seed=0, env=env.config, **small)
    model = program.make_model(chosen, env)
    model.learn(24)
    save_agent(model, tmp_path, note="kept")
    saved = read_agent(tmp_path / AGENT_FILE)
    assert saved.values["note"] == "kept"
    again = program.make_model(dataclasses.replace(chosen, seed=5), KnownAnswer())
    saved.give_to(again)
    assert again.num_timesteps == model.num_timesteps == 24
    for mine, theirs in (
        (again.policy.state_dict(), model.policy.state_dict()),
        (again.policy.optimizer.state_dict(), model.policy.optimizer.state_dict()),
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    observation, _ = env.reset(seed=0)
    start = np.array([True])
    assert (
        Greedy(model, env).predict(observation, None, start)[0]
        == Greedy(again, env).predict(observation, None, start)[0]
    )
    again.learn(12, reset_num_timesteps=False)


class Pwned(Exception):
    pass


class Hostile:
    def __reduce__(self):
        return exec, ("import tests.agents.test_saved_agents as t; raise t.Pwned",)


def make_hostile(folder):
    """Puts code into every pickle of an agent.zip, and takes what needs none away."""
    (folder / AGENT_FILE).unlink()
    with zipfile.ZipFile(folder / "agent.zip", "w") as archive:
        archive.writestr("data", '{"policy_class": {":serialized:": "AAAA"}}')
        for name in ("policy.pth", "policy.optimizer.pth", "pytorch_variables.pth"):
            archive.writestr(name, pickle.dumps(Hostile()))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return pairwise.train(options(tmp_path_factory.mktemp("source"), name="a", pretrain_runs=1))


def cut_off(tmp_path, monkeypatch, chosen):
    step, left = TieEnv.step, [3]

    def dies(self, action):
        left[0] -= 1
        if left[0] < 0:
            raise ZeroDivisionError
        return step(self, action)

    with monkeypatch.context() as patch:
        patch.setattr(TieEnv, "step", dies)
        with pytest.raises(ZeroDivisionError):
            pairwise.train(chosen)
    return dataclasses.replace(chosen, resume=chosen.runs_dir / chosen.name)


def test_nothing_that_is_resumed_or_named_is_unpickled(tmp_path, monkeypatch, source):
    def never(*_, **__):
        raise Pwned

    monkeypatch.setattr(BaseAlgorithm, "load", classmethod(never))
    hostile = shutil.copytree(source, tmp_path / "hostile")
    whole = pairwise.train(options(tmp_path, name="whole", source=hostile))
    chosen = options(tmp_path, name="run", source=hostile, checkpoint_every_steps=1)
    resumed = cut_off(tmp_path, monkeypatch, chosen)
    make_hostile(hostile)
    # Its own copy of the agent is enough: what the record names isn't read.
    assert facts(pairwise.train(resumed))["steps"] == facts(whole)["steps"]
    with pytest.raises(InputError, match=r"name the archive itself: --source .*agent\.zip"):
        pairwise.train(options(tmp_path, source=hostile))
    with pytest.raises(InputError, match="its weights can't be read"):
        pairwise.train(options(tmp_path, source=hostile / "agent.zip"))
    again = cut_off(tmp_path, monkeypatch, options(tmp_path, name="b", source=source))
    (again.resume / AGENT_FILE).unlink()
    config = (again.resume / "config.json").read_text()
    (again.resume / "config.json").write_text(config.replace(str(source), f"{hostile}/agent.zip"))
    named = dataclasses.replace(again, source=hostile / "agent.zip")
    with pytest.raises(InputError, match="was named by a record, and not by you"):
        pairwise.train(named)


def test_an_archive_of_the_first_version_is_used_if_the_user_names_it(tmp_path, source):
    old = shutil.copytree(source, tmp_path / "old")
    (old / AGENT_FILE).unlink()
    run = read_run(pairwise.train(options(tmp_path, source=old / "agent.zip", seed=5)))
    expected = read_run(pairwise.train(options(tmp_path, source=source, seed=5)))
    assert [row["action"] for row in run.steps] == [row["action"] for row in expected.steps]
    assert run.summary["extra_iterations"] == ENV.max_iters


def test_an_agent_of_another_kind_or_size_or_a_damaged_file_is_refused(tmp_path, source):
    env = KnownAnswer()
    other = dqn.make_model(dqn.Options(env=env.config), env)
    with pytest.raises(InputError, match="it is of 'PPO', and not of DQN"):
        read_agent(source / AGENT_FILE).give_to(other)
    flat = ppo.make_model(ppo.Options(env=env.config), env)
    with pytest.raises(InputError, match="no agent that can decide here"):
        read_agent(source / AGENT_FILE).give_to(flat)
    for changes, values in (
        ({"optimiser.x.step": torch.zeros(1)}, {}),
        ({"optimiser.0": torch.zeros(1)}, {}),
        ({f"optimiser.{'9' * 5000}.step": torch.zeros(1)}, {}),
        ({}, ["algorithm"]),
        ({}, {"spent_iterations": "many"}),
        ({}, {"spent_iterations": -1}),
        ({}, {"num_timesteps": 1.5}),
        ({}, {"table_steps": True}),
        ({}, {"algorithm": ["PPO"]}),
    ):
        path = tmp_path / "odd.safetensors"
        write_tensors(path, "agent", {"a": torch.zeros(2), **changes}, values)
        with pytest.raises(InputError, match=r"odd\.safetensors holds no agent: it"):
            read_agent(path)
    (tmp_path / AGENT_FILE).write_bytes((source / AGENT_FILE).read_bytes()[:-7])
    for path in (tmp_path / AGENT_FILE, tmp_path / "none.safetensors", tmp_path / "none.zip"):
        with pytest.raises(InputError, match="holds no agent"):
            read_agent(path)
