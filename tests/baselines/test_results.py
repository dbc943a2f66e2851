"""The evidence's studies: what they hold, that they run, and where their tables go."""

import dataclasses

import pytest

from baselines import results
from baselines.results import Options, Study, put_between_markers, run_study, studies
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig

ENV = TieConfig(**SMALL)


def test_every_study_holds_the_null_model_and_its_policies_are_known(tmp_path):
    options = Options(env=ENV, wikitext=tmp_path)
    for study in studies(4):
        assert "random" in study.policies
        arms = [results.parse_arm(p, results.env_of(study, options)) for p in study.policies]
        assert {arm.options.env.n_layer for arm in arms} == {study.n_layer}


@pytest.mark.usefixtures("in_process")
def test_a_study_has_a_row_for_each_policy_and_for_what_is_made_of_them(tmp_path, monkeypatch):
    options = Options(
        seeds=2, pretrain_runs=1, runs_dir=tmp_path, workers=2, quiet=True, env=ENV, page=tmp_path
    )
    env = dataclasses.replace(ENV, corpus=ENV.corpus)
    first = Study("first", env.corpus, 4, ("pairwise --pretrain-runs 1", "random"), "random")
    second = Study("second", env.corpus, 5, ("tied",), transferred="first")
    monkeypatch.setattr(results, "studies", lambda pretrain_runs: [first, second])
    rows = run_study(first, options)
    assert [row.policy for row in rows] == [*first.policies, "retrain, ties of random"]
    for run, source in zip(rows[2].runs, rows[1].runs, strict=True):
        assert run.summary["final"]["ties"] == source.summary["final"]["ties"]
    rows = run_study(second, options)
    assert [row.policy for row in rows] == ["tied", "pairwise, trained at 4 layers"]
    assert rows[1].protocol == "pretrained"
    assert rows[1].extra_iterations == ENV.max_iters
    assert rows[1].seeds == [0, 1]
    for run in rows[1].runs:  # each by the agent that was trained with its seed
        seed = run.config["options"]["seed"]
        assert run.config["source_run"].endswith(f"-seed{seed}")


def test_no_seeds_are_an_error():
    with pytest.raises(SystemExit, match="seeds=0 must be at least 1"):
        results.main(["--seeds", "0"])


def test_a_table_takes_the_place_of_the_last_one():
    page = "# Title\n<!-- a -->\nold\n<!-- end -->\ntext\n<!-- b -->\n<!-- end -->\n"
    once = put_between_markers(page, "a", "| new |\n")
    assert (
        once == "# Title\n<!-- a -->\n\n| new |\n\n<!-- end -->\ntext\n<!-- b -->\n<!-- end -->\n"
    )
    assert put_between_markers(once, "a", "| new |\n") == once
    with pytest.raises(ValueError, match="no place for 'c'"):
        put_between_markers(page, "c", "x")
