import errno
import io
import os

import pytest

import tiegym
from tests.tiegym.analysis.made_up import make_run, write_run
from tiegym import cli
from tiegym.runs.json_files import write_json


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: no run given: name at least one run folder"),
        (["nowhere"], "error: nowhere: there is no such folder"),
        (["empty"], "error: empty: no run folder (it has no config.json), and none in it"),
        (["damaged"], "is damaged"),
    ],
)
def test_a_report_of_what_is_no_run_is_one_line_and_status_2(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", *arguments])
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "report.html").exists()


def test_a_report_needs_the_folder_that_it_goes_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    write_json(tmp_path / "run" / "config.json", {"format": 1, "env": {"max_iters": 4}})
    with pytest.raises(SystemExit, match="2"):
        cli.main(["report", "run", "--out", "no/report.html"])
    assert "there is no folder no" in capsys.readouterr().err
    cli.main(["report", "run", "--out", "page.html"])
    assert "cut off after 0 of 4 iterations" in (tmp_path / "page.html").read_text()
    assert capsys.readouterr().out == "report: page.html\n"


def test_help_names_the_subcommands(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    assert "report" in capsys.readouterr().out


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two policies of two seeds, and a run that still goes on, in a working directory."""
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        write_run(make_run(seed, 1.0 + seed / 10), tmp_path / "runs" / "mine" / f"q{seed}")
        write_run(make_run(seed, 2.0, "random_tying"), tmp_path / "runs" / f"r{seed}")
    searching = {"format": 1, "program": "evolution", "options": {}}
    (tmp_path / "runs" / "on").mkdir()
    write_json(tmp_path / "runs" / "on" / "config.json", searching)
    return tmp_path


def test_finished_runs_are_compared_from_the_wheel(runs, capsys):
    cli.main(["compare", "runs", "--out", "verdict"])
    printed = capsys.readouterr()
    assert "runs/on is left out" in printed.err
    assert printed.err.count("\n") == 1
    assert "random: 2 seeds: too few to say" in printed.out
    made = {path.name for path in (runs / "verdict").iterdir()}
    assert made == {
        *("comparison.md", "comparison.csv"),
        *("comparison.png", "pareto.png", "ties.png"),
    }
    assert (runs / "verdict" / "comparison.md").read_text().count("| qlearning |") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: no run given"),
        (["nowhere"], "error: nowhere: there is no such folder"),
        (["runs/on"], "still searching"),
        (["runs", "--out", "a-file/x"], "a-file/x can't be written"),
    ],
)
def test_a_comparison_that_cannot_be_made_is_one_line_and_status_2(
    runs, capsys, arguments, message
):
    (runs / "a-file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        cli.main(["compare", *arguments])
    assert stopped.value.code == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_a_run_still_searching_does_not_hide_others_from_a_report(runs, capsys):
    cli.main(["report", "runs", "--out", "page.html"])
    assert "runs/on is left out" in capsys.readouterr().err
    assert "qlearning" in (runs / "page.html").read_text()


def test_the_version_is_said(capsys):
    cli.main(["--version"])
    assert capsys.readouterr().out == f"tiegym {tiegym.__version__}\n"


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "[bold]x", "[/]", "\u202e"])
def test_paths_in_messages_steer_no_terminal(runs, capsys, name):
    cli.main(["compare", "runs", "--out", f"out{name}"])
    printed = capsys.readouterr().out
    assert "\x1b[2J" not in printed
    assert "\u202e" not in printed
    if name.startswith("["):
        assert f"out{name}/comparison.csv" in printed
    with pytest.raises(SystemExit, match="2"):
        cli.main(["compare", f"nowhere{name}"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said


@pytest.mark.parametrize(
    ("command", "out", "writer"),
    [
        ("report", "page.html", "tiegym.report.page.write_bytes"),
        ("film", "film.gif", "tiegym.pictures.run_film.write_bytes"),
        ("compare", "judged", "tiegym.analysis.comparison.plot_ties"),
        ("compare", "judged", "tiegym.analysis.comparison.write_bytes"),
    ],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_an_out_that_cannot_be_written_is_one_line_and_status_2(
    runs, monkeypatch, capsys, command, out, writer, number
):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number), ".out.0000.tmp")

    monkeypatch.setattr(writer, fail)
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, "runs/r0" if command == "film" else "runs", "--out", out])
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"{out} can't be written" in message
    assert os.strerror(number) in message


@pytest.mark.parametrize(("command", "out"), [("report", "taken.html"), ("film", "taken.gif")])
def test_an_out_that_is_a_folder_is_one_line_and_status_2(runs, capsys, command, out):
    (runs / out).mkdir()
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, "runs/r0", "--out", out])
    assert f"--out {out} can't be written: Is a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "out"), [("report", "p.html"), ("film", "f.gif"), ("compare", "c")]
)
@pytest.mark.parametrize("target", ["/dev/full", None])
def test_words_that_nobody_can_read_end_no_command(runs, monkeypatch, command, out, target):
    # Not closed before the test ends: what it holds can't be written then either.
    stream = (
        None if target is None else io.TextIOWrapper(io.FileIO(target, "w"), line_buffering=True)
    )
    monkeypatch.setattr("sys.stdout", stream)
    cli.main([command, "runs/r0", "--out", out])
    assert (runs / out).exists()
