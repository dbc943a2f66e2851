"""Agents that were trained in another run: in which runs they may decide, and what is recorded."""

import dataclasses
import hashlib
import shutil

import pytest

from agents import pairwise
from agents.saved_agents import AGENT_FILE, read_agent
from agents.trained_sources import where_learnt
from baselines.kept import stale_folders
from baselines.policies import ComparedPolicy
from tests.agents.test_saved_agents import cut_off
from tests.tiegym.small import SMALL
from tiegym.bench.recorded import real_config
from tiegym.bench.table import load_table
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError
from tiegym.runs.json_files import read_json, write_json
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)
DEEPER = dataclasses.replace(ENV, n_layer=5)


def options(folder, **changes):
    return pairwise.Options(
        **{"runs_dir": folder, "quiet": True, "env": ENV, "n_steps": 4, "n_epochs": 1} | changes
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module")
def online(folder):
    return pairwise.train(options(folder, name="online", seed=3))


@pytest.fixture(scope="module")
def pretrained(folder):
    return pairwise.train(options(folder, name="pretrained", seed=3, pretrain_runs=1))


@pytest.fixture(scope="module")
def tabulated(folder, tree_file):
    """Of the table's train seeds 0 and 1 it left out its own, 0."""
    small = {"total_steps": 80, "envs": 10, "n_steps": 4, "n_epochs": 1, "quiet": True}
    where = {"runs_dir": folder, "name": "tabulated", "seed": 0}
    return pairwise.train(pairwise.Options.for_table(str(tree_file), **small, **where))


def learnt(run):
    """How and for which seed the agent of a run learnt."""
    return run.config["learnt"]["protocol"], run.config["learnt"]["seed"]


def test_an_agent_that_learnt_online_does_not_meet_its_own_run_again(tmp_path, online):
    with pytest.raises(InputError, match=r"learnt online in that run, of seed=3, .* --seed other"):
        pairwise.train(options(tmp_path / "runs", source=online, seed=3))
    assert not (tmp_path / "runs").exists()
    for seed, env in (
        (4, ENV),
        (3, DEEPER),
        (3, dataclasses.replace(ENV, corpus="synthetic:9000")),
    ):
        run = read_run(pairwise.train(options(tmp_path, source=online, env=env, seed=seed)))
        assert learnt(run) == ("online", 3)
        assert run.summary["extra_iterations"] == ENV.max_iters
        shutil.rmtree(run.folder)


def test_an_agent_that_was_pretrained_decides_in_the_run_of_any_seed(tmp_path, pretrained):
    """The seeds of its pretraining are beyond those of runs."""
    run = read_run(pairwise.train(options(tmp_path, source=pretrained, seed=3)))
    assert learnt(run) == ("pretrained", 3)
    assert "table" not in run.config
    assert "table_steps" not in run.summary


def test_an_agent_of_a_table_decides_where_it_did_not_learn_and_says_so(
    tmp_path, tree_file, tabulated
):
    env = real_config(str(tree_file))
    with pytest.raises(InputError, match=r"with its recorded run, of seed=1, .* other than 1, or"):
        pairwise.train(options(tmp_path / "runs", source=tabulated, env=env, seed=1))
    assert not (tmp_path / "runs").exists()
    for seed in (0, 2):
        run = read_run(pairwise.train(options(tmp_path, source=tabulated, env=env, seed=seed)))
        table = {"table": str(tree_file), "table_sha256": load_table(str(tree_file)).sha256}
        for record in (run.config, run.summary):
            assert record | table | {"table_seeds": [1]} == record
        assert run.summary["table_steps"] == 80
        assert run.summary["extra_iterations"] == 0
        assert learnt(run) == ("tabulated", 0)


def test_where_it_learnt_goes_with_it_from_run_to_run(tmp_path, tree_file, online, tabulated):
    of_table = real_config(str(tree_file))
    for source, env, own, learnt_on in ((online, ENV, 3, 3), (tabulated, of_table, 0, 1)):
        for seed in (7, 8):
            source = pairwise.train(options(tmp_path, source=source, env=DEEPER, seed=seed))
        with pytest.raises(InputError, match="has an agent that learnt on"):
            pairwise.train(options(tmp_path, source=source, env=env, seed=learnt_on))
        assert learnt(read_run(source))[1] == own
        pairwise.train(options(tmp_path, source=source, env=env, seed=7, name=f"again-{own}"))
        shutil.rmtree(tmp_path / "pairwise-seed7")
        steps = read_run(source).summary.get("table_steps")
        source = shutil.move(source, tmp_path / f"last-{own}")
    assert steps == 80


def test_a_record_that_does_not_say_where_it_learnt_is_refused(tmp_path, online, tabulated):
    second = pairwise.train(options(tmp_path, name="second", source=online, seed=4))
    config = read_json(second / "config.json")
    old = {k: v for k, v in config.items() if k not in ("learnt", "source")}
    write_json(second / "config.json", old)
    with pytest.raises(InputError, match=r"second has its agent from .*online', .* as the source"):
        pairwise.train(options(tmp_path, source=second, seed=5))
    for wrong in ({"protocol": "none"}, {"seed": "3"}, {"protocol": ["online"]}):
        with pytest.raises(InputError, match="doesn't say how its agent learnt"):
            where_learnt(second, config | {"learnt": config["learnt"] | wrong})
    config = read_json(tabulated / "config.json")
    for wrong in ({"table_seeds": None}, {"table": ["a"]}, {"table_sha256": 0}):
        with pytest.raises(InputError, match=r"doesn't say on which recorded seeds its agent"):
            where_learnt(tabulated, config | wrong)


def test_a_run_that_was_cut_off_goes_on_with_what_it_knew_of_its_source(
    tmp_path, tree_file, tabulated, monkeypatch
):
    source = shutil.copytree(tabulated, tmp_path / "source")
    env = real_config(str(tree_file))
    given = options(tmp_path, source=source, env=env, seed=2, checkpoint_every_steps=1)
    whole = read_run(pairwise.train(dataclasses.replace(given, name="whole")))
    resumed = cut_off(tmp_path, monkeypatch, dataclasses.replace(given, name="cut"))
    source.rename(tmp_path / "gone")
    run = read_run(pairwise.train(resumed))
    for key in ("source", "learnt", "table", "table_seeds"):
        assert run.config[key] == whole.config[key]
    for key in ("table", "table_sha256", "table_seeds", "table_steps", "extra_iterations"):
        assert run.summary[key] == whole.summary[key]


def test_a_record_says_which_agent_it_was_and_a_comparison_notices_another(
    tmp_path, online, pretrained
):
    source = shutil.copytree(online, tmp_path / "source")
    given = options(tmp_path, source=source, seed=5)
    found = given.source_record()
    assert set(found) == {"run", "agent_sha256"}
    assert found["run"] == source
    assert len(bytes.fromhex(found["agent_sha256"])) == hashlib.sha256().digest_size
    run = read_run(pairwise.train(given))
    assert run.config["source"] == {"run": str(source), "agent_sha256": found["agent_sha256"]}
    again = options(tmp_path, source=run.folder).source_record()  # the same agent, saved again
    assert again["agent_sha256"] == found["agent_sha256"]
    archived = options(tmp_path, source=source / "agent.zip").source_record()
    assert archived["agent_sha256"] == found["agent_sha256"]
    assert options(tmp_path).source_record() is None

    policy = ComparedPolicy("pairwise", "agents.pairwise", given)
    assert stale_folders([(policy, run.folder)], None, "rerun") == set()
    shutil.copy(pretrained / AGENT_FILE, source / AGENT_FILE)
    assert read_agent(source / AGENT_FILE).sha256 != found["agent_sha256"]
    assert stale_folders([(policy, run.folder)], None, "rerun") == {run.folder}
    with pytest.raises(InputError, match="the run that they begin with was another"):
        stale_folders([(policy, run.folder)], None, "refuse")
    (source / AGENT_FILE).unlink()
    with pytest.raises(InputError, match="name the archive itself"):
        given.source_record()
    (source / "agent.zip").unlink()
    with pytest.raises(InputError, match="its agent was left out where the run was copied"):
        given.source_record()
    shutil.rmtree(source)
    with pytest.raises(InputError, match="is no run's folder"):
        given.source_record()
