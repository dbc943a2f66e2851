"""The notebooks run from top to bottom, and are stored without what they print."""

import json

import pytest

from tests.docs.pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


def test_there_is_a_notebook_of_one_episode():
    assert ROOT / "docs" / "notebooks" / "one-episode.ipynb" in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_of_a_notebook_run_in_order(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # what a cell writes stays out of the checkout
    notebook = json.loads(path.read_text())
    assert notebook["nbformat"] == 4
    namespace = {"__name__": "__main__"}
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), namespace)
    assert "test perplexity" in capsys.readouterr().out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_to_pages(path):
    text = path.read_text()
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert links
    assert all((path.parent / link).is_file() for link in links)
