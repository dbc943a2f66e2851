import pytest

from tests.tiegym.report.test_page import make_run
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


def test_a_film_of_a_run_is_a_gif(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run")
    cli.main(["film", "run", "--theme", "dark"])
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF89a")
    assert capsys.readouterr().out == "film: film.gif\n"


@pytest.mark.parametrize("arguments", [["nowhere"], ["run", "--out", "film.mp4"], ["run"]])
def test_what_has_no_film_is_one_line_and_status_2(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", steps=0, finished=False)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["film", *arguments])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
