"""Comparisons with agents that learned on a table."""

import dataclasses

import pytest

from baselines.compare import Options, compare, main
from tiegym.bench.recorded import real_config
from tiegym.runs.input_errors import InputError


@pytest.fixture
def tree_name(tree_file, monkeypatch):
    """A path as short as users give it: it stands in tables and pictures."""
    monkeypatch.chdir(tree_file.parent)
    return tree_file.name


def policy(table, more="--total-steps 100"):
    return f"ppo --table {table} {more}"


def test_a_tabulated_policy_is_compared_as_any_other(tree_name, tmp_path, in_process, capsys):
    arguments = [policy(tree_name), "evolution --table " + tree_name, "random", "tied"]
    arguments += ["--table", tree_name, "--seeds", "2", "--quiet", "--runs-dir", str(tmp_path)]
    main(arguments)
    table = capsys.readouterr().out
    assert "tabulated" in table
    assert in_process.started == 1
    main(arguments)  # finished runs are reused
    assert in_process.started == 1
    assert capsys.readouterr().out == table


def test_an_agent_of_another_environment_is_refused(tree_name, tmp_path):
    env = dataclasses.replace(real_config(tree_name), n_embd=32)
    with pytest.raises(InputError, match=r"env\.n_embd=32, but table .* was made with 16"):
        compare(Options(policies=(policy(tree_name), "tied"), runs_dir=tmp_path, env=env))
    env = real_config(tree_name)
    options = Options(policies=(policy(tree_name),), runs_dir=tmp_path, env=env, lr_grid=(0.5,))
    with pytest.raises(InputError, match=r"lr_grid: env\.learning_rate=0\.5, but table"):
        compare(options)
    assert not list(tmp_path.glob("*-seed*"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--table", "nothing"], "table='nothing' is unknown"),
        (["--table", "nothing", "--paper"], "--paper and --table bring two environments"),
    ],
)
def test_a_table_that_is_none_is_one_line(more, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["tied", "--runs-dir", str(tmp_path), *more])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_kept_runs_of_another_table_are_refused(tree_name, tmp_path, in_process):
    from tiegym.runs.json_files import read_json, write_json

    env = real_config(tree_name)
    options = Options(
        policies=(policy(tree_name), "tied"), seeds=1, runs_dir=tmp_path, env=env, quiet=True
    )
    compare(options)
    (folder,) = tmp_path.glob("ppo*-seed0")
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"table_sha256": "0" * 64})
    with pytest.raises(InputError, match=r"their table was another: ppo"):
        compare(options)
