"""Retraining: the vector, the result, the environment, what is refused."""

import dataclasses
import re
import shutil

import pytest

from agents import lookahead
from baselines import fixed, random_tying, retrain
from baselines.policies import parse_policy
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.json_files import write_json
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of random tying with a learning rate of its own."""
    env = dataclasses.replace(ENV, learning_rate=3e-3)
    options = random_tying.Options(
        seed=2, runs_dir=tmp_path_factory.mktemp("source"), quiet=True, env=env, total_steps=14
    )
    return read_run(random_tying.train(options))


def test_it_is_fixed_tying_with_the_vector_that_the_run_ended_with(source, tmp_path):
    vector = source.steps[11]["ties"]
    assert vector == source.summary["final"]["ties"]  # of the last episode that ended
    assert len({tuple(row["ties"]) for row in source.steps}) > 1
    options = retrain.Options(seed=7, runs_dir=tmp_path, quiet=True, env=ENV, run=source.folder)
    run = read_run(retrain.train(options))
    assert [row["ties"] for row in run.steps] == [vector] * ENV.steps_per_episode
    pattern = ",".join(map(str, vector))
    same = fixed.Options(seed=7, runs_dir=tmp_path, quiet=True, env=ENV, pattern=pattern)
    expected = read_run(fixed.train(same))
    assert [r["val_loss"] for r in run.steps] == [r["val_loss"] for r in expected.steps]
    assert run.summary["final"]["test_perplexity"] == expected.summary["final"]["test_perplexity"]


def test_the_record_names_the_source_and_its_price(source, tmp_path):
    options = retrain.Options(runs_dir=tmp_path, quiet=True, env=ENV, run=source.folder)
    run = read_run(retrain.train(options))
    assert run.config["source"] == {
        "run": str(source.folder),
        "program": "random_tying",
        "ties": source.summary["final"]["ties"],
    }
    assert run.folder.name == f"retrain-{source.config['program']}-seed0"
    assert run.config["protocol"] == "pretrained"
    assert run.summary["extra_iterations"] == 2 * ENV.max_iters


def test_what_the_source_spent_besides_its_own_run_counts_too(tmp_path):
    first = lookahead.train(lookahead.Options(runs_dir=tmp_path, quiet=True, env=ENV))
    extra = read_run(first).summary["extra_iterations"]
    run = retrain.train(retrain.Options(runs_dir=tmp_path, quiet=True, env=ENV, run=first))
    assert read_run(run).summary["extra_iterations"] == extra + ENV.max_iters > ENV.max_iters


def test_the_command_line_takes_the_environment_of_the_run(source, tmp_path, capsys):
    retrain.main(f"--run {source.folder} --runs-dir {tmp_path} --quiet --env.batch-size 3".split())
    folder = capsys.readouterr().out.strip().removeprefix("run folder: ")
    given = read_run(folder).config["env"]
    assert given == source.config["env"] | {
        "batch_size": 3,
        "initial_ties": source.summary["final"]["ties"],
    }


def test_in_a_comparison_the_environment_is_the_comparisons(source):
    policy = parse_policy(f"retrain --run {source.folder}", ENV)
    assert policy.module == "baselines.retrain"
    assert (policy.options.run, policy.options.env) == (source.folder, ENV)


def test_a_run_without_a_final_vector_is_refused(source, tmp_path):
    def attempt(folder, env=ENV):
        retrain.train(retrain.Options(runs_dir=tmp_path / "new", quiet=True, env=env, run=folder))

    with pytest.raises(ValueError, match="--run runs/NAME"):
        attempt(None)
    with pytest.raises(ValueError, match="nowhere is no run folder"):
        attempt(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"ties of 4 layers, but env.n_layer=5"):
        attempt(source.folder, dataclasses.replace(ENV, n_layer=5))
    cut_off = tmp_path / "cut-off"
    shutil.copytree(source.folder, cut_off)
    write_json(cut_off / "summary.json", source.summary | {"finished": False})
    write_json(cut_off / "config.json", source.config | {"checksums": False})
    with pytest.raises(ValueError, match="cut-off is not a finished run"):
        attempt(cut_off)
    (cut_off / "summary.json").unlink()
    with pytest.raises(ValueError, match="cut-off is not a finished run"):
        attempt(cut_off)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"final": None}, "no environment, no episodes or no final ties"),
        ({"final": {"episode": 0}}, "no environment, no episodes or no final ties"),
        ({"episodes": []}, "no environment, no episodes or no final ties"),
        ({"episodes": [{"episode": 0}]}, "an episode without iterations"),
    ],
)
def test_a_finished_run_that_says_too_little_is_one_line(
    source, changes, message, tmp_path, capsys
):
    folder = shutil.copytree(source.folder, tmp_path / "copy")
    write_json(folder / "config.json", source.config | {"checksums": False})
    write_json(folder / "summary.json", source.summary | changes)
    with pytest.raises(SystemExit, match="2"):
        retrain.main(["--run", str(folder)])
    err = capsys.readouterr().err
    assert re.search(message, " ".join(err.split()))
    assert err.count("\n") == 1


@pytest.mark.parametrize("env", [{"nonsense": 1}, {"n_layer": None}, None])
def test_a_record_of_an_environment_that_is_none_is_one_line(source, env, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(source.folder, folder)
    given = {} if env is None else {"env": source.config["env"] | env}
    config = {key: value for key, value in source.config.items() if key != "env"}
    write_json(folder / "config.json", config | given)
    with pytest.raises(SystemExit) as ended:
        retrain.main(["--run", str(folder)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_of_no_program_is_called_as_its_folder(source, tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(source.folder, folder)
    config = {key: value for key, value in source.config.items() if key != "program"}
    write_json(folder / "config.json", config)
    options = retrain.Options(runs_dir=tmp_path, quiet=True, env=ENV, run=folder)
    assert read_run(retrain.train(options)).config["source"]["program"] == "mine"


def test_the_command_line_explains_itself(capsys):
    with pytest.raises(SystemExit, match="0"):
        retrain.main(["--help"])
    assert "Folder of the finished run" in capsys.readouterr().out
