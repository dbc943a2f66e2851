"""The runs of a comparison as commands, one a run, for job arrays."""

import shlex

import pytest

from baselines.compare import main
from tests.runs import facts
from tests.tiegym.small import SMALL
from tiegym.runs.commands import python_command

ARGUMENTS = [f"--env.{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
POLICIES = ["random --checkpoint-every-steps 2", "0,0,1,1"]


def listed(capsys, *arguments):
    main([*arguments, *ARGUMENTS, "--list-missing"])
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def run(command):
    """What a shell does with a line, but in this process."""
    words = shlex.split(command)
    assert shlex.join(words[:3]) == python_command("baselines.compare")
    main([*words[3:], "--quiet"])
    return words[-1]


def test_each_command_makes_the_run_that_the_comparison_would_have_made(
    tmp_path, capsys, in_process
):
    there, other = ["--runs-dir", str(tmp_path / "some where")], ["--runs-dir", str(tmp_path / "b")]
    commands = listed(capsys, *POLICIES, "--seeds", "1", *there)
    assert len(commands) == 2
    assert in_process.started == 0
    assert "--threads 1 --only " in commands[0]
    name = run(commands[0])
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in (tmp_path / "some where").glob("*-seed?")] == [name]
    assert listed(capsys, *POLICIES, "--seeds", "1", *there) == commands[1:]

    main([*POLICIES, "--seeds", "1", *other, "--quiet", *ARGUMENTS])
    assert facts(tmp_path / "some where" / name) == facts(tmp_path / "b" / name)
    for command in commands:  # the first one once more, as when a job is requeued
        run(command)
    in_process.started = 0
    main([*POLICIES, "--seeds", "1", *there, "--quiet", *ARGUMENTS])
    assert in_process.started == 0
    capsys.readouterr()
    assert listed(capsys, *POLICIES, "--seeds", "1", *there) == []


def test_with_a_grid_the_runs_of_tuning_come_first(tmp_path, capsys, in_process):
    arguments = ["tied", "--seeds", "1", "--runs-dir", str(tmp_path), "--lr-grid", "1e-3", "1e-2"]
    commands = listed(capsys, *arguments)
    assert len(commands) == 4
    names = [run(command) for command in commands]
    assert all(name.startswith("tuning/fixed-tied-") for name in names)
    (last,) = listed(capsys, *arguments)
    run(last)
    assert listed(capsys, *arguments) == []


def test_a_run_that_is_none_of_the_comparison_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["tied", "--runs-dir", str(tmp_path), "--only", "fixed-tied-0", *ARGUMENTS])
    assert ended.value.code == 2
    assert "only='fixed-tied-0' is no run of this comparison" in capsys.readouterr().err


def test_a_stale_run_is_listed_only_where_it_is_to_be_made_anew(tmp_path, capsys, in_process):
    arguments = ["tied", "--seeds", "1", "--runs-dir", str(tmp_path), "--threads", "2"]
    (command,) = listed(capsys, *arguments)
    run(command)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        listed(capsys, *arguments, "--threads", "1")
    assert "they had 2 threads, not 1" in capsys.readouterr().err
    (again,) = listed(capsys, *arguments, "--threads", "1", "--stale", "rerun")
    run(again)
    assert listed(capsys, *arguments, "--threads", "1", "--stale", "rerun") == []
