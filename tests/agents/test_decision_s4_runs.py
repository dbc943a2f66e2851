"""Decision S4 on recorded runs: what it learns from, what that cost, and what it must not see."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from agents import decision_s4
from agents.decision_s4_learning import DecisionS4
from agents.recorded_runs import read_runs
from agents.saved_agents import AGENT_FILE, read_agent
from baselines import random_tying
from tests.agents.known_answer import KnownAnswer
from tests.tiegym.small import SMALL
from tiegym.bench.recorded import real_config
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.offline import convert
from tiegym.offline.convert import play_table
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)
TINY = {"width": 16, "states": 4, "layers": 2, "batch_size": 8}


def recorded(folder, seeds=(1, 2), **changes):
    """Runs of random tying."""
    env = dataclasses.replace(ENV, **changes)
    return tuple(
        str(random_tying.train(random_tying.Options(runs_dir=folder, quiet=True, env=env, seed=s)))
        for s in seeds
    )


def offline(folder, runs, **changes):
    values = {"runs": runs, "pretrain_runs": 0, "layer_stats": False, "offline_updates": 20}
    values |= {"runs_dir": folder, "quiet": True, "env": ENV, "seed": 3}
    return decision_s4.Options(**TINY | values | changes)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two runs of random tying."""
    return recorded(tmp_path_factory.mktemp("source"))


def test_it_learns_from_run_folders_and_counts_what_they_cost(tmp_path, source):
    runs = source
    run = read_run(decision_s4.train(offline(tmp_path / "runs", runs)))
    assert run.config["protocol"] == "pretrained"
    assert run.summary["extra_iterations"] == 2 * ENV.max_iters
    assert run.summary["finished"]
    assert len(run.steps) == ENV.steps_per_episode
    saved = read_agent(run.folder / AGENT_FILE)
    assert saved.values["spent_iterations"] == 2 * ENV.max_iters
    best = max(-row["val_loss"] for path in runs for row in read_run(path).steps[-1:])
    assert saved.weights["target_level"].item() == pytest.approx(best, abs=1e-6)
    assert DecisionS4.load(run.folder / "agent.zip").policy.target_level.item() == pytest.approx(
        best, abs=1e-6
    )


def test_a_run_that_was_cut_off_goes_on_without_the_runs_that_it_learnt_from(
    tmp_path, source, monkeypatch
):
    copies = tuple(shutil.copytree(run, tmp_path / "source" / Path(run).name) for run in source)
    options = offline(tmp_path / "runs", tuple(map(str, copies)), seed=1)
    whole = read_run(decision_s4.train(dataclasses.replace(options, name="whole")))
    with monkeypatch.context() as patch:
        patch.setattr(TieEnv, "test_metrics", lambda env: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            decision_s4.train(dataclasses.replace(options, name="cut"))
    (tmp_path / "source").rename(tmp_path / "gone")
    decision_s4.main(["--resume", str(tmp_path / "runs" / "cut")])
    run = read_run(tmp_path / "runs" / "cut")
    for key in ("action", "val_loss"):
        assert [row[key] for row in run.steps] == [row[key] for row in whole.steps]
    for key in ("extra_iterations", "left_out_episodes"):
        assert run.summary[key] == whole.summary[key] > 0


def test_it_goes_on_online_on_a_table_from_runs_of_the_same_environment(tree_file, tmp_path):
    from tiegym.offline.minari_data import write_data_set

    write_data_set(play_table(str(tree_file), 20, "random", 0), tmp_path / "made-v0", "random")
    options = decision_s4.Options.for_table(
        str(tree_file),
        runs=(str(tmp_path / "made-v0"),),
        total_steps=200,
        offline_updates=5,
        seed=2,
        quiet=True,
        runs_dir=tmp_path,
        **TINY,
    )
    run = read_run(decision_s4.train(options))
    assert run.config["protocol"] == "tabulated"
    assert run.summary["table_steps"] == 200
    assert run.summary["extra_iterations"] == 0  # recorded runs trained nothing
    with pytest.raises(InputError, match="itself learns from recorded runs"):
        decision_s4.make_model(options, KnownAnswer())


def test_it_does_not_learn_from_the_run_that_it_is_judged_on(tmp_path, source):
    """Whose seed is 1: the one of seed 2 is all that is left, with all that it is asked for."""
    (own, other), learnt = source, {}
    for name, runs in (("both", source), ("other", (other,))):
        folder = decision_s4.train(offline(tmp_path / name, runs, seed=1))
        learnt[name] = read_run(folder), read_agent(folder / AGENT_FILE).weights
    (run, weights), (alone, expected) = learnt["both"], learnt["other"]
    assert [row["action"] for row in run.steps] == [row["action"] for row in alone.steps]
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)
    best = -read_run(other).steps[-1]["val_loss"]
    assert weights["target_level"].item() == pytest.approx(best, abs=1e-6)
    assert run.summary["extra_iterations"] == ENV.max_iters
    assert run.summary["left_out_episodes"] == 1
    assert alone.summary["left_out_episodes"] == 0
    with pytest.raises(InputError, match=r"all 1 episodes are of seed=1, .* another --seed"):
        decision_s4.train(offline(tmp_path / "none", (own,), seed=1))
    assert not (tmp_path / "none").exists()


def test_a_run_goes_with_all_of_its_episodes_whatever_seed_they_have(tmp_path, source):
    """Later episodes of a run are of its stream, and have no seed of their own on record."""
    long = random_tying.Options(
        runs_dir=tmp_path, quiet=True, env=ENV, seed=1, total_steps=3 * ENV.steps_per_episode
    )
    runs = (str(random_tying.train(long)), source[1])
    found, left_out = read_runs(runs, ENV, layer_stats=False, leave_out=1)
    assert [episode.seed for episode in found.episodes] == [2]
    assert left_out == 3
    assert found.iterations == ENV.max_iters
    found, left_out = read_runs(runs, ENV, layer_stats=False, leave_out=3)
    assert [episode.seed for episode in found.episodes] == [1, None, None, 2]
    assert (left_out, found.iterations) == (0, 4 * ENV.max_iters)

    convert.from_runs([Path(run) for run in runs], None, tmp_path / "made-v0", print)
    data_set = (str(tmp_path / "made-v0"),)
    found, left_out = read_runs(data_set, ENV, layer_stats=False, leave_out=1)
    assert [episode.seed for episode in found.episodes] == [2]
    assert (left_out, found.iterations) == (3, ENV.max_iters)
    found, left_out = read_runs(data_set, ENV, layer_stats=False, leave_out=2)
    assert [episode.seed for episode in found.episodes] == [1, None, None]
    assert (left_out, found.iterations) == (1, 3 * ENV.max_iters)


def test_a_table_does_not_come_back_through_a_data_set(tree_file, tmp_path, capsys):
    convert.from_table(str(tree_file), 20, "random", 0, tmp_path / "tree-v0")
    env = real_config(str(tree_file))
    data_set = (str(tmp_path / "tree-v0"),)
    found, left_out = read_runs(data_set, env, layer_stats=True, leave_out=0)
    assert {episode.seed for episode in found.episodes} == {1}
    assert 0 < left_out < 20 == left_out + len(found.episodes)
    options = decision_s4.Options.for_table(
        str(tree_file), runs=data_set, total_steps=200, offline_updates=2, seed=0, **TINY
    )
    run = read_run(decision_s4.train(dataclasses.replace(options, runs_dir=tmp_path)))
    assert run.summary["left_out_episodes"] == left_out
    assert f"{left_out} episodes of seed 0 are left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ({}, {"layer_stats": True}, "no layer_stats: .* --no-layer-stats"),
        ({"n_layer": 3}, {}, "trajectories are of n_layer=3, and not of 4"),
        ({"corpus": "synthetic:30000"}, {}, "of a text with sha256"),
        ({"learning_rate": 0.5}, {}, "trajectories are of learning_rate=0.5"),
    ],
)
def test_runs_that_do_not_fit_are_refused_before_there_is_a_folder(
    tmp_path, source, theirs, ours, message
):
    runs = recorded(tmp_path / "source", seeds=(1,), **theirs) if theirs else source
    with pytest.raises(InputError, match=message):
        decision_s4.train(offline(tmp_path / "runs", runs, **ours))
    with pytest.raises(InputError, match="there is no such folder"):
        decision_s4.train(offline(tmp_path / "runs", (str(tmp_path / "none"),)))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ("runs/x",)}, r"runs=.* and pretrain_runs=8 are two ways"),
        ({"pretrain_runs": 0}, "learns from whole runs, before the recorded one"),
        ({"env": dataclasses.replace(ENV, action="joint")}, 'choose "layerwise"'),
        ({"offline_share": 0.8}, "exploration_fraction=0.75 must be above offline_share=0.8"),
        ({"offline_share": -0.1}, "offline_share=-0.1 must be from 0"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"offline_updates": 0}, "offline_updates=0 must be at least 1"),
        ({"target_factor": 0.0}, "target_factor=0.0 must be above 0"),
        ({"ent_coef": float("nan")}, "ent_coef=nan must be 0 or more"),
    ],
)
def test_what_it_cannot_do_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        decision_s4.Options(**changes)


def test_runs_on_the_command_line_change_what_it_begins_with():
    options = decision_s4.Options.defaults(["--runs", "runs/x", "runs/y", "--seed", "1"])
    assert (options.runs, options.pretrain_runs) == (("runs/x", "runs/y"), 0)
    assert not options.layer_stats
    assert decision_s4.Options.defaults(["--runs-dir", "x"]) == decision_s4.Options()
