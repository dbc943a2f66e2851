"""Agents that learn on a table: what is kept of them, and that nothing else decides it."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from baselines import table_learning
from baselines.studies import LEARNING
from baselines.table_learning import learn, learn_missing, parse_learner
from tests.baselines.tables import DECISIONS, made_table
from tiegym.bench.recorded import real_config
from tiegym.bench.regret import known_regrets, regret
from tiegym.bench.table import load_table
from tiegym.runs.input_errors import InputError


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return str(made_table(tmp_path_factory.mktemp("tables")))


def learner(text, table, decisions=DECISIONS, price=0.0):
    return parse_learner(text, table, real_config(table, "delta_ppl_params", price), decisions)


def ends(learnt):
    return {split: found.tolist() for split, found in learnt.ends.items()}


@pytest.mark.parametrize("agent", LEARNING)
def test_every_agent_plays_every_recorded_seed_whenever_it_is_judged(agent, table):
    learnt = learn(learner(agent, table), 0)  # by its default settings, from 100 decisions on
    leaves = load_table(table).tree.leaves
    assert learnt.ends["train"].shape == (2, 3)
    assert learnt.ends["held-out"].shape == (2, 2)
    assert all(np.isin(found, leaves).all() for found in learnt.ends.values())
    assert learnt.cpu_seconds > 0


def test_an_agent_that_has_learnt_has_less_regret_than_chance(table):
    recorded = load_table(table)
    learnt = learn(learner("maskable_ppo", table, (4000,)), 0)
    found = regret(recorded, learnt.ends["held-out"][0], 0.0).mean()
    assert found < 0.1 * known_regrets(recorded, 0.0)["random"].mean()


def test_an_agent_learns_the_price_of_parameters(table):
    recorded = load_table(table)
    for price, independent in ((0.0, 2), (3.0, 1)):
        learnt = learn(learner("maskable_ppo", table, (4000,), price), 1)
        ties = recorded.tree.ties[learnt.ends["held-out"][0]]
        assert ((ties == [0, 1, 2]).sum(axis=1) == independent).all()


@pytest.mark.slow
def test_the_number_of_processes_changes_nothing_and_what_is_kept_is_not_learnt_again(
    table, tmp_path, monkeypatch
):
    agents = [learner("dqn", table), learner("ppo --envs 10 --n-steps 10", table)]
    one = learn_missing(agents, range(2), tmp_path / "one", workers=1, quiet=True)
    two = learn_missing(agents, range(2), tmp_path / "two", workers=2, quiet=True)
    for label, learnt in one.items():
        assert [ends(a) for a in learnt] == [ends(b) for b in two[label]]
    names = [sorted(p.name for p in (tmp_path / n).iterdir()) for n in ("one", "two")]
    assert names[0] == names[1]
    assert len(names[0]) == 4
    monkeypatch.delattr(table_learning, "learn")
    again = learn_missing(agents, range(2), tmp_path / "one", workers=1, quiet=True)
    assert [ends(a) for a in again["dqn"]] == [ends(a) for a in one["dqn"]]


def test_stopped_it_goes_on_with_the_seeds_that_are_missing(table, tmp_path, monkeypatch):
    agent, original, begun = learner("dqn", table), table_learning.learn, []

    def stop_at_the_second(learner, seed):
        begun.append(seed)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return original(learner, seed)

    monkeypatch.setattr(table_learning, "learn", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        learn_missing([agent], range(3), tmp_path, 1, True)
    assert agent.path(tmp_path, 0).is_file()
    assert len(list(tmp_path.iterdir())) == 1
    learn_missing([agent], range(3), tmp_path, 1, True)
    assert begun == [0, 1, 1, 2]


def test_another_table_price_option_or_code_is_not_mixed_in(table, tmp_path, monkeypatch):
    agent = learner("dqn", table)
    values = np.random.default_rng(5).random()
    others = [
        learner("dqn", str(made_table(tmp_path, shift=values))),
        learner("dqn", table, price=0.1),
        learner("dqn", table, (*DECISIONS, 1000)),
        learner("dqn --gamma 0.9", table),
        learner("ppo --envs 10 --n-steps 10", table),
    ]
    assert len({a.fingerprint for a in (agent, *others)}) == 6
    assert learner("dqn --gamma 1.0", table).fingerprint == agent.fingerprint  # its own default
    elsewhere = tmp_path / "copy.npz"
    elsewhere.write_bytes(Path(table).read_bytes())
    assert learner("dqn", str(elsewhere)).fingerprint == agent.fingerprint
    before = agent.fingerprint
    monkeypatch.setattr(table_learning, "source_sha256", lambda module: "another")
    assert agent.fingerprint != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": "0"}, "it is of another agent, table or code"),
        ({"ends": {"train": [[0]], "held-out": [[0]]}}, r"must be \(2, 3\) leaves"),
        ({"ends": {"train": "[]"}}, "must be"),
        ({"ends": None}, "NoneType"),
        ({"cpu_seconds": None}, "float"),
    ],
)
def test_what_is_damaged_is_named_and_not_used(table, tmp_path, change, message):
    agent = learner("dqn", table)
    learn_missing([agent], [0], tmp_path, 1, True)
    path = agent.path(tmp_path, 0)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=f"{path.name} is damaged: .*{message}.*remove it"):
        learn_missing([agent], [0], tmp_path, 1, True)
    path.write_text("{")
    with pytest.raises(InputError, match=f"{path.name} is damaged"):
        learn_missing([agent], [0], tmp_path, 1, True)


def test_what_is_kept_says_what_it_is(table, tmp_path):
    agent = learner("dqn", table, price=0.25)
    learn_missing([agent], [3], tmp_path, 1, True)
    kept = json.loads(agent.path(tmp_path, 3).read_text())
    assert (kept["agent"], kept["seed"], kept["price"]) == ("dqn", 3, 0.25)
    assert kept["table_sha256"] == load_table(table).sha256
    assert kept["decisions"] == list(DECISIONS)
    assert kept["options"]["gamma"] == agent.options.gamma


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dnq", "'dnq' is no agent that learns: did you mean 'dqn'?"),
        ("random", "There are qlearning, dqn, .*what doesn't learn is in every result by itself"),
        ("", "is no agent that learns"),
        ("dqn 'x", "is no agent: No closing quotation"),
        ("dqn --seed 3", "--seed is no agent's: all get it from this program"),
        ("dqn --total-steps 100", "--total-steps is no agent's"),
        ("dqn --env.n-embd 64", "env.n_embd=64, but table"),
        ("dqn --env.reward neg_ppl", "--env is no agent's"),
        ("dqn --name mine", "--name is no agent's"),
        ("dqn --gamma 2", "gamma=2.0 must be"),
        ("dqn --envs 40", "decides in 40 episodes at once: give multiples of 40"),
        ("ppo --envs 10 --n-steps 50", "first rollout, 500 decisions: begin there"),
    ],
)
def test_what_is_no_agent_is_refused(text, message, table, capsys):
    with pytest.raises((InputError, SystemExit)) as refused:
        learner(text, table)
    said = str(refused.value) + " ".join(capsys.readouterr().err.replace("│", "").split())
    assert re.search(message, said), said


def test_an_agent_is_told_its_text_nowhere(table):
    """The text of a shipped table needn't be on this machine, whatever options are given."""
    agent = learner("dqn --gamma 0.9", table)
    assert agent.options.gamma == 0.9
    assert agent.options.env.corpus == "elsewhere"
    changed = dataclasses.replace(agent.options, seed=4)
    assert changed.env == agent.options.env
