"""What a run that anybody made can do to the page: nothing but be shown."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.tiegym.report.test_page import make_run
from tiegym.analysis.groups import find_runs
from tiegym.report.checked import checked, count, number
from tiegym.report.page import write_report
from tiegym.runs.folder import Run
from tiegym.ties import is_tie_vector

BREAKS_OUT = [
    '"><script>alert(1)</script>',
    "' onmouseover=alert(1) x='",
    '" onmouseover="alert(1)',
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "{{ 7 * 7 }}",
    "a\x00\x1b[31m\u2028\u202e\n",
    "javascript:alert(1)",
]
NO_NUMBERS = [*BREAKS_OUT, "4", None, True, float("nan"), float("inf"), 10**400, -1, [], {}, [[1]]]
NO_TIES = ["x", 3, [], [1, 0], [0, 2, 0], [0, -1], [0, "1"], [0, 0.0], [0, None], [[0]], {"0": 0}]


class Page(HTMLParser):
    """The tags of a page with their attributes, and the content of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.inside = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, text):
        if self.inside == "script":
            self.scripts.append(text)

    @property
    def data(self):
        """What the page's script reads; NaN and infinity are no JSON."""

        def refuse(name):
            raise ValueError(name)

        return json.loads(self.scripts[0], parse_constant=refuse)


def written(runs, tmp_path, skipped=()):
    write_report(runs, tmp_path / "report.html", skipped)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    check(page, text)
    return page, text


def check(page, text):
    """That nothing on the page runs but its own script."""
    for _, attributes in page.tags:
        names = [name for name, _ in attributes]
        assert not [name for name in names if name.startswith("on")]
        assert set(names) <= KNOWN, set(names) - KNOWN
    assert [tag for tag, _ in page.tags].count("script") == len(page.scripts) == 2
    own = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    policies = [dict(a)["content"] for tag, a in page.tags if "http-equiv" in dict(a)]
    assert len(policies) == 1
    assert f"script-src 'sha256-{own}'" in policies[0]
    assert "49" not in re.findall(r"<td[^>]*>([^<]*)", text)


KNOWN = {
    *("lang", "charset", "name", "content", "http-equiv", "class", "id", "type", "style", "open"),
    *("checked", "viewbox", "role", "aria-label", "x", "y", "x1", "x2", "y1", "y2", "width"),
    *("height", "text-anchor", "clip-path", "cx", "cy", "r", "d", "fill-opacity", "alt", "src"),
    *("data-group", "data-toggle", "data-tip", "data-line", "data-end", "data-film"),
}


def made_run(name="run", config=None, rows=None, final=None):
    """A run that was never a file."""
    env = {"n_layer": 3, "max_iters": 12, "corpus": "stdlib"}
    config = {"program": "ppo", "env": env, "options": {"seed": 0}, **(config or {})}
    row = {"episode": 0, "iteration": 4, "perplexity": 20.0, "n_independent": 2, "ties": [0, 0, 2]}
    good = {**row, "iteration": 8}
    steps = [{**row, **(rows or {})}, good]
    last = {**good, "test_perplexity": 20.0, "trainable_params": 1234, **(final or {})}
    return Run(Path(name), config, steps, {"finished": True, "final": last})


def seeds(values, key, place):
    """A run for each value, on one page."""
    return [
        made_run(f"run{k}", {"options": {"seed": k}}, **{place: {key: value}})
        for k, value in enumerate(values)
    ]


@pytest.mark.parametrize("key", ["iteration", "perplexity", "n_independent", "episode"])
def test_what_is_no_number_is_not_drawn(key, tmp_path):
    page, text = written(seeds(NO_NUMBERS, key, "rows"), tmp_path)
    assert "<script>alert" not in text
    for line in page.data["lines"]:
        assert all(type(x) in (int, float) for point in line for x in point)


@pytest.mark.parametrize(
    "key", ["test_perplexity", "trainable_params", "n_independent", "perplexity", "iteration"]
)
def test_figures_at_the_end_that_are_no_numbers_are_shown_as_missing(key, tmp_path):
    _, text = written(seeds(NO_NUMBERS, key, "final"), tmp_path)
    assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", text)
    assert "<script>alert" not in text


FILM = {"ties": [[0, 0, 2]], "iterations": [8], "layers": 3}


def test_ties_that_are_no_forest_are_left_out_and_their_rows_counted_as_damaged(tmp_path):
    page, text = written(seeds(NO_TIES, "ties", "rows"), tmp_path)
    assert page.data["films"] == [FILM] * len(NO_TIES)
    assert text.count("finished, 1 row damaged") == len(NO_TIES)


def test_tie_vectors_of_several_lengths_in_one_run_are_no_film_together(tmp_path):
    page, _ = written([made_run(rows={"ties": [0, 0]})], tmp_path)
    assert page.data["films"] == [FILM]


@pytest.mark.parametrize("text", BREAKS_OUT, ids=range(len(BREAKS_OUT)))
def test_text_stays_text_wherever_it_stands(text, tmp_path):
    config = {
        "program": text,
        "created": text,
        "versions": {text: text},
        "git": {"revision": text},
        "device": text,
        "corpus_sha256": text,
        "env": {"n_layer": text, "max_iters": text, "corpus": text, text: text},
        "options": {"seed": 0, text: text, "list": [text]},
    }
    other = made_run("other", {**config, "options": {"seed": 0, text: "b"}})
    written([made_run(text, config), other], tmp_path, skipped=[text])


@pytest.mark.parametrize(
    "config",
    [{"env": []}, {"env": "x"}, {"options": 3}, {"options": {"seed": "x"}}, {"options": None}],
)
def test_a_configuration_of_another_form_is_shown_all_the_same(config, tmp_path):
    written([made_run(config=config)], tmp_path)


def test_a_folder_whose_name_is_no_utf_8_is_shown(tmp_path):
    _, text = written([made_run("runs/\udce9t\udce9")], tmp_path)
    assert r"runs/\udce9t\udce9" in text


def test_runs_that_are_left_out_are_said_on_the_page(tmp_path):
    _, text = written([made_run()], tmp_path, skipped=["runs/a is left out: it is damaged"])
    assert "1 run is left out" in text
    assert "<li>runs/a is left out: it is damaged</li>" in text
    _, text = written([made_run()], tmp_path)
    assert "left out" not in text


def test_the_shortest_run_is_drawn_inside_the_scale(tmp_path):
    make_run(tmp_path / "runs" / "long", steps=100, perplexity=20)
    make_run(tmp_path / "runs" / "short", seed=1, steps=1, finished=False)
    page, _ = written(find_runs([tmp_path / "runs"]), tmp_path)
    paths = [dict(a) for tag, a in page.tags if tag == "path" and "point" in dict(a)["class"]]
    assert len(paths) == 2  # perplexity and independent layers
    for path in paths:
        x, y = map(float, re.match(r"M([\d.]+),([\d.-]+)h0$", path["d"]).groups())
        assert 52 <= x <= 548
        assert 12 <= y <= 258


def test_no_column_of_the_page_is_wider_than_a_phone(tmp_path):
    _, text = written([made_run()], tmp_path)
    fixed = re.findall(r"minmax\((?!min\()(\d+)px", text)
    assert fixed == []
    outside = re.sub(r'<div class="wide">.*?</div>', "", text, flags=re.DOTALL)
    assert "<table" not in outside


def test_a_good_run_is_left_as_it_is():
    run = made_run()
    shown, damaged = checked(run)
    assert damaged == 0
    assert shown.steps == run.steps
    assert shown.summary == run.summary


def test_numbers_counts_and_forests_are_what_they_are_called():
    assert [number(v) for v in (0, -2.5, 10**9)] == [0, -2.5, 10**9]
    assert [count(v) for v in (0, 7, -1, 2.0, 2**53)] == [0, 7, None, None, None]
    assert is_tie_vector([0, 0, 1, 3])
    assert not any(is_tie_vector(ties) for ties in NO_TIES)


def test_nothing_moves_a_cursor_where_the_page_is_read_as_text(tmp_path):
    _, text = written([made_run("runs/a\x1b[2Jb", {"program": "p\x1b[31m"})], tmp_path)
    assert "\x1b" not in text
    assert r"runs/a\x1b[2Jb" in text


@pytest.mark.parametrize("value", [2.35e17, 1e299])
def test_curves_of_one_large_value_are_drawn(value, tmp_path):
    run = made_run()
    for row in run.steps:
        row["perplexity"] = value
    written([run], tmp_path)
