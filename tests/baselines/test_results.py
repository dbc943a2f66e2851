"""The evidence's studies: what they hold, that they run, and where their tables go."""

import pytest

from baselines import results
from baselines.policies import parse_policy
from baselines.results import Options, Study, put_between_markers, run_study, studies
from tests.tiegym.small import SMALL
from tiegym import ties
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError

ENV = TieConfig(**SMALL)


def test_every_study_holds_its_yardsticks_and_its_policies_are_known(tmp_path):
    options = Options(env=ENV, wikitext=tmp_path)
    for study in studies(4):
        env = results.env_of(study, options)
        policies = [parse_policy(text, env) for text in study.policies]
        assert len(set(study.policies)) == len(study.policies)
        assert {policy.options.env.n_layer for policy in policies} == {study.n_layer}
        assert {"random", "random-fixed", "random-raw"} <= set(study.policies)
        half = study.n_layer // 2
        assert {f"shallow:{m}" for m in (1, 2, half)} <= set(study.policies)
        patterns = [p.options.pattern for p in policies if p.module == "baselines.fixed"]
        sizes = {ties.n_independent(ties.parse(p, study.n_layer)) for p in patterns}
        assert sizes == set(range(1, study.n_layer + 1))  # wherever an agent ends


def test_a_study_has_a_row_for_each_policy_and_for_what_is_made_of_them(
    tmp_path, monkeypatch, in_process
):
    options = Options(
        seeds=2, pretrain_runs=1, runs_dir=tmp_path, quiet=True, env=ENV, page=tmp_path
    )
    first = Study("first", ENV.corpus, 4, ("pairwise --pretrain-runs 1", "random"), "random")
    second = Study("second", ENV.corpus, 5, ("tied",), transferred="first")
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "seeds=0 must be at least 1"),
        (["--pretrain-runs", "0"], "pretrain_runs=0 must be at least 1"),
        (["--study", "nonsense"], "study=['nonsense'] is unknown: choose from main"),
        (["--study", "wikitext-6"], "wikitext-6 needs --wikitext"),
        (["--study", "sharing", "--seeds", "7"], "seeds=7 must be at least 8 in the study sharing"),
        (["--study", "clip", "--workers", "0"], "workers=0 must be at least 1"),
        (["--study", "clip", "--runs-dir", "/dev/null/x"], "can't be used"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        results.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1


def test_a_page_without_a_place_for_the_table_is_an_input_error(tmp_path):
    (tmp_path / "page.md").write_text("# No markers")
    for page in (tmp_path / "page.md", tmp_path / "nowhere.md"):
        with pytest.raises(InputError, match=r"no place for 'main'|No such file"):
            results.put_on_page("main", "| table |", page)


def test_the_study_of_sharing_is_run_and_put_on_the_page(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("<!-- sharing -->\nnothing yet\n<!-- end -->\n")
    asked = []

    def run(env, seeds, options):
        asked.append((env.corpus, env.n_layer, env.n_head, env.n_embd, seeds, options.runs_dir))
        return {}

    monkeypatch.setattr(results.cost_of_changing, "run", run)
    monkeypatch.setattr(results.cost_table, "write", lambda rows, folder: f"of {folder.name}")
    results.main(["--study", "sharing", "--page", str(page), "--runs-dir", str(tmp_path)])
    assert asked == [("stdlib", 6, 2, 48, range(10), tmp_path / "sharing")]
    text = page.read_text()
    assert "of sharing" in text
    assert "(page/sharing/costs.png)" in text
    assert "nothing yet" not in text
    results.main(f"--study sharing --page {page} --runs-dir {tmp_path} --seeds 12".split())
    assert asked[1][4] == range(12)


def test_a_table_takes_the_place_of_the_last_one():
    page = "# Title\n<!-- a -->\nold\n<!-- end -->\ntext\n<!-- b -->\n<!-- end -->\n"
    once = put_between_markers(page, "a", "| new |\n")
    assert (
        once == "# Title\n<!-- a -->\n\n| new |\n\n<!-- end -->\ntext\n<!-- b -->\n<!-- end -->\n"
    )
    assert put_between_markers(once, "a", "| new |\n") == once
    with pytest.raises(ValueError, match="no place for 'c'"):
        put_between_markers(page, "c", "x")
