"""Runs whose layers share by parts, or can be frozen: checked, compared, shown."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest

from baselines import fixed, random_tying
from tests.tiegym.analysis.made_up import make_row, make_run
from tests.tiegym.small import SMALL
from tiegym import cli
from tiegym.analysis import tables
from tiegym.analysis.groups import group_runs
from tiegym.analysis.references import best_fixed, draws_raw_actions, null_model
from tiegym.analysis.rows import make_row as row_of
from tiegym.analysis.rows import training_differences
from tiegym.config import TieConfig
from tiegym.pictures.run_film import write_film
from tiegym.pictures.tie_film import CELL, draw_similarity, tie_film
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run

BOTH = TieConfig(**SMALL | {"tie_parts": "attention+mlp", "choices": "tie+freeze"})
PARTS = {"tie_parts": "attention+mlp"}


def made(loss=1.0, ties=None, actions=(0,), seed=0, **env):
    """A run with these ties at the end of each of its steps."""
    run = make_run(seed, loss, **env)
    ties = [0] * (8 if env.get("tie_parts") else 4) if ties is None else ties
    steps = [run.steps[0] | {"ties": ties, "action": action} for action in actions]
    return dataclasses.replace(run, steps=steps)


def of_parts(policy, program, loss=1.0, **env):
    return row_of(policy, [made(loss, program=program, **PARTS | env)])


def test_rows_have_the_ties_of_all_parts_or_are_no_record():
    assert of_parts("ours", "qlearning").runs
    with pytest.raises(InputError, match="give 8, those of the attention parts"):
        row_of("ours", [made(ties=[0, 0, 2, 2], **PARTS)])
    with pytest.raises(InputError, match="8 entries, but there are 4 layers"):
        row_of("ours", [made(ties=[0] * 8)])


def test_a_policy_is_compared_with_others_of_its_kind_of_sharing():
    ours, block = of_parts("ours", "qlearning"), make_row([1.0], program="qlearning")
    null, other = of_parts("random", "random_tying"), make_row([2.0], "random", "random_tying")
    pattern, blocks = of_parts("a", "fixed-a"), make_row([0.5], "b", "fixed-b")
    rows = [ours, block, other, null, blocks, pattern]
    assert null_model(rows, ours).losses == null.losses
    assert null_model(rows, block).losses == other.losses
    assert best_fixed(rows, ours).policy == "a"
    assert best_fixed(rows, block).policy == "b"
    freezing = of_parts("freezing", "qlearning", choices="tie+freeze")
    assert null_model([*rows, freezing], freezing) is None  # random tying chose among fewer
    assert best_fixed([*rows, freezing], freezing).policy == "a"


@pytest.mark.parametrize(
    ("env", "actions", "beyond"),
    [
        ({}, [1, 2, 3, 1], False),
        ({}, [1, 3], True),
        (PARTS, [1, 1, 2, 2, 3, 3, 1], False),
        (PARTS, [1, 1, 2, 3], True),
        ({"choices": "tie+freeze"}, [0, 1, 2, 3, 0], False),
        ({"choices": "tie+freeze"}, [4, 4, 4, 4, 4], False),
        ({"choices": "tie+freeze"}, [1], True),
    ],
)
def test_raw_actions_are_those_that_the_mask_of_the_kind_leaves_out(env, actions, beyond):
    row = row_of("mine", [made(actions=actions, program="mine", **env)])
    assert draws_raw_actions(row) == beyond


def test_a_table_says_what_chance_leaves_of_parts_and_where_kinds_differ():
    def setting(rows):
        return tables.setting(rows, tables.make_table(rows))

    block, parts = make_row([1.0], "block"), of_parts("parts", "qlearning")
    assert "leaves 2.08 independent layers on average" in setting([block])
    assert "leaves 4.17 independent parts of layers on average" in setting([parts])
    freezing = row_of("freezing", [made(choices="tie+freeze")])
    assert "leaves 2.57 independent layers" in setting([freezing])  # 2/2 + 2/3 + 2/4 + 2/5
    assert training_differences([block, parts]) == {
        "tie_parts": {"block": ["block"], "attention+mlp": ["parts"]}
    }


def test_runs_of_0_1_are_of_one_kind_with_the_defaults():
    def old(seed):
        run = make_run(seed, 1.0)
        env = {k: v for k, v in run.config["env"].items() if k not in ("tie_parts", "choices")}
        return dataclasses.replace(run, config={**run.config, "env": env})

    runs = [old(0), make_run(1, 1.0)]
    assert len(group_runs(runs)) == 1
    rows = [row_of("old", [runs[0]]), row_of("new", [runs[1]])]
    assert training_differences(rows) == {}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The folders of two runs with parts that share apart and can be frozen."""
    folder = tmp_path_factory.mktemp("runs")
    common = {"runs_dir": folder, "quiet": True, "env": BOTH}
    return [
        random_tying.train(random_tying.Options(seed=0, **common)),
        fixed.train(fixed.Options(pattern="0,0,2,2,0,1,0,1", seed=0, **common)),
    ]


def test_a_record_has_the_ties_of_both_parts_and_what_was_frozen(recorded):
    rows = read_run(recorded[0]).steps
    assert {len(row["ties"]) for row in rows} == {len(row["frozen"]) for row in rows} == {8}
    assert any(any(row["frozen"]) for row in rows)
    assert {type(flag) for row in rows for flag in row["frozen"]} == {bool}


def test_a_report_shows_both_parts(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["report", *map(str, recorded)])
    page = (tmp_path / "report.html").read_text()
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1]
    films = json.loads(data)["films"]
    assert [film["layers"] for film in films] == [4, 4]
    assert [0, 0, 2, 2, 4, 5, 4, 5] in [film["ties"][-1] for film in films]  # with units as targets


def test_a_film_and_a_comparison_are_drawn(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["film", str(recorded[0])])
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF89a")
    cli.main(["compare", *map(str, recorded), "--out", "compared"])
    assert (tmp_path / "compared" / "ties.png").stat().st_size > 1000
    assert "4.17" not in (tmp_path / "compared" / "comparison.md").read_text()  # it could freeze


@pytest.mark.parametrize("frozen", ["x", [1] * 4, [True], [[True]] * 4, [None] * 4, 3])
def test_what_a_record_says_of_frozen_layers_is_shown_if_it_is_a_flag_each(tmp_path, frozen):
    step = {"iteration": 4, "perplexity": 9.0, "ties": [0, 0, 2, 2]}
    films = []
    for more in ({}, {"frozen": frozen}, {"frozen": [False, False, True, False]}):
        write_film([step | more], tmp_path / "film.gif", n_layer=4)
        films.append((tmp_path / "film.gif").read_bytes())
    assert films[0] == films[1] != films[2]


def test_a_film_has_the_mlps_above_the_attention_each_in_the_colours_of_its_part():
    film = tie_film([[0, 0, 0, 1]], n_layer=2)
    assert film.shape == (4 * CELL, 1, 4)
    opaque = film.reshape(4, CELL, 4)[..., 3] == 255
    assert opaque.sum(axis=1).tolist() == [5, 5, 2, 5]  # MLPs 1 and 0, attentions 1 and 0
    colours = film.reshape(4, CELL, 4)[:, CELL // 2, :3]
    assert (colours[1] == colours[3]).all()
    assert (colours[0] != colours[1]).any()


def test_similarities_of_both_parts_are_two_panels():
    one, two = (draw_similarity(np.ones(shape)) for shape in ((3, 3), (2, 3, 3)))
    assert two.shape[1] == 2 * one.shape[1]
