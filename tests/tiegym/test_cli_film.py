"""The film of a run from the command line."""

import pytest

from tests.tiegym.report.test_page import make_run
from tiegym import cli


def test_a_film_of_a_run_is_a_gif(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run")
    cli.main(["film", "run", "--theme", "dark"])
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF89a")
    assert capsys.readouterr().out == "film: film.gif\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no run folder"),
        (["whole", "--out", "film.mp4"], "must be a name that ends in .gif"),
        (["whole", "--out", "no/film.gif"], "in a folder that exists"),
        (["empty"], "no step with ties and a perplexity"),
    ],
)
def test_what_has_no_film_is_one_line_and_status_2(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "whole")
    make_run(tmp_path / "empty", steps=0, finished=False)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["film", *arguments])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not (tmp_path / "film.gif").exists()


def test_the_report_says_which_runs_it_leaves_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "runs" / "compare" / "whole")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "config.json").write_text("{")
    cli.main(["report", "runs"])
    assert "broken is left out" in capsys.readouterr().err
    page = (tmp_path / "report.html").read_text()
    assert "1 run is left out" in page
    assert "runs/broken is left out" in page
    assert "runs/compare/whole" in page
