"""The report of runs, from folders that hold no more than what it reads."""

import json
import re
from html.parser import HTMLParser

import pytest

from tiegym.analysis.groups import find_runs, group_runs, interquartile_mean, state
from tiegym.report.page import write_report
from tiegym.runs.json_files import dumps, write_json


def make_run(folder, program="ppo", seed=0, perplexity=20.0, steps=3, finished=True, **settings):
    """Writes a run folder; `settings` are the environment's."""
    folder.mkdir(parents=True)
    env = {"n_layer": 3, "max_iters": 12, "corpus": "stdlib", **settings}
    config = {"format": 1, "program": program, "env": env, "versions": {"tiegym": "9.8.7"}}
    options = {"seed": seed, "name": folder.name, "runs_dir": str(folder.parent), "env": env}
    write_json(folder / "config.json", {**config, "options": options})
    figures = {"episode": 0, "n_independent": 2, "ties": [0, 0, 2], "trainable_params": 1234}
    rows = [
        {**figures, "iteration": 4 * k, "perplexity": perplexity + 100 / k}
        for k in range(1, steps + 1)
    ]
    (folder / "steps.jsonl").write_text("".join(f"{dumps(row)}\n" for row in rows))
    if finished:
        final = {**rows[-1], "test_perplexity": perplexity, "diverged": perplexity > 1e6}
        write_json(folder / "summary.json", {"format": 1, "finished": True, "final": final})
    return folder


def page(folders, tmp_path):
    write_report(find_runs(folders), tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def test_runs_of_one_program_and_one_set_of_options_are_one_policy_best_first(tmp_path):
    make_run(tmp_path / "runs" / "a0", "dqn", 0, 30)
    make_run(tmp_path / "runs" / "b1", "ppo", 1, 20)
    make_run(tmp_path / "runs" / "b0", "ppo", 0, 22)
    make_run(tmp_path / "runs" / "c0", "ppo", 0, 40, learning_rate=0.1)
    groups = group_runs(find_runs([tmp_path / "runs"]))
    assert [(group.label, [run.folder.name for run in group.runs]) for group in groups] == [
        ("ppo (learning_rate=None)", ["b0", "b1"]),
        ("dqn", ["a0"]),
        ("ppo (learning_rate=0.1)", ["c0"]),
    ]


def test_a_run_named_twice_counts_once(tmp_path):
    run = make_run(tmp_path / "runs" / "a")
    assert len(find_runs([run, tmp_path / "runs", run])) == 1


def test_cut_off_and_diverged_runs_are_shown_as_such_and_only_the_former_not_counted(tmp_path):
    make_run(tmp_path / "runs" / "whole", perplexity=20)
    make_run(tmp_path / "runs" / "wild", perplexity=5e8, seed=1)
    make_run(tmp_path / "runs" / "cut", seed=2, steps=2, finished=False)
    make_run(tmp_path / "runs" / "empty", seed=3, steps=0, finished=False)
    (group,) = group_runs(find_runs([tmp_path / "runs"]))
    assert [state(run) for run in group.runs] == ["finished", "diverged", "cut off", "cut off"]
    assert group.final("test_perplexity") == [20, 5e8]
    text = page([tmp_path / "runs"], tmp_path)
    assert "2, 1 diverged, 2 cut off" in text
    assert "cut off after 8 of 12 iterations" in text
    assert "cut off after 0 of 12 iterations" in text


def test_the_page_loads_nothing_and_text_stays_text(tmp_path):
    make_run(tmp_path / "runs" / "a", '<script>alert("1")</script>', corpus="<b>&'\"")
    text = page([tmp_path / "runs"], tmp_path)
    assert "<script>alert" not in text
    assert "<b>&'" not in text
    loaded = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            loaded.extend(
                value
                for name, value in attributes
                if name in ("src", "href", "srcset", "data", "action")
                and not value.startswith("data:image/png;base64,")
            )

    Links().feed(text)
    assert loaded == []
    assert not re.search(r"https?:|@import|fetch\(|XMLHttp", text)


def test_the_page_has_the_table_the_curves_the_films_and_where_they_come_from(tmp_path):
    for seed in range(2):
        make_run(tmp_path / "runs" / f"a{seed}", seed=seed, perplexity=20 + seed)
    make_run(tmp_path / "runs" / "b", "tied", perplexity=31)
    text = page([tmp_path / "runs"], tmp_path)
    assert "20 to 21" in text
    assert text.count("<path ") == 6  # perplexity and independent layers of three runs
    assert text.count("<circle ") == 3
    assert text.count('src="data:image/png;base64,') == 3
    assert "9.8.7" in text
    assert "Not all runs had the same task" not in text


def test_runs_of_different_tasks_are_not_passed_off_as_comparable(tmp_path):
    make_run(tmp_path / "runs" / "a")
    make_run(tmp_path / "runs" / "b", max_iters=24)
    assert "Not all runs had the same task" in page([tmp_path / "runs"], tmp_path)


@pytest.mark.parametrize(("name", "value"), [("test_tokens", 7), ("model", "gpt2")])
def test_what_no_comparison_takes_together_no_page_does(name, value, tmp_path):
    make_run(tmp_path / "runs" / "a")
    make_run(tmp_path / "runs" / "b", **{name: value})
    assert f"same task:</b> {name} differs" in page([tmp_path / "runs"], tmp_path)


def test_a_shallower_transformer_compares_and_another_of_its_text_does_not(tmp_path):
    make_run(tmp_path / "runs" / "a", n_layer=3)
    make_run(tmp_path / "runs" / "b", "shallow-1", n_layer=1)
    text = page([tmp_path / "runs"], tmp_path)
    assert "Not all runs had the same task" not in text
    assert "n_layer 3" in text
    make_run(tmp_path / "runs" / "c", n_layer=2)
    assert "</b> n_layer differs" in page([tmp_path / "runs"], tmp_path)


@pytest.mark.parametrize(
    ("values", "expected"), [([3.0], 3), ([1.0, 2, 6], 3), ([0.0, 2, 4, 100], 3)]
)
def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end(values, expected):
    assert interquartile_mean(values) == expected


def test_seconds_are_those_of_a_comparison_a_median_over_all_steps(tmp_path):
    run = make_run(tmp_path / "runs" / "a")
    rows = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    for row, seconds in zip(rows, (0.25, 9.0, 0.125), strict=True):
        row["seconds_per_iteration"] = seconds
    (run / "steps.jsonl").write_text("".join(f"{dumps(row)}\n" for row in rows))
    assert "<td>0.2500</tr>" in page([run], tmp_path)
