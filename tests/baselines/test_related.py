"""The study of the neighbours of layer tying, at a tiny size."""

import pytest

from baselines import related, results
from baselines.policies import parse_policy
from baselines.results import Options
from baselines.settings import DEEP
from baselines.studies import Study
from tests.tiegym.analysis.made_up import make_row
from tests.tiegym.small import SMALL
from tiegym.analysis.comparison import judge
from tiegym.config import TieConfig


def test_all_policies_of_the_study_are_known_and_of_its_size(tmp_path):
    policies = [parse_policy(text, DEEP) for text in related.POLICIES]
    assert len({policy.folder(tmp_path, 0) for policy in policies}) == len(policies)
    assert {policy.options.env.n_layer for policy in policies} == {DEEP.n_layer}
    sources = {each.source.folder(tmp_path, 0) for each in related.continued(DEEP, tmp_path)}
    assert len(sources) == 2  # of the text before, and of the study's


@pytest.mark.slow
def test_the_study_has_a_table_of_what_each_takes_and_a_picture(tmp_path, monkeypatch, in_process):
    few = ("independent", "tied --env.quantize int4", "tied", "recurrent-stacking --at 0.5")
    monkeypatch.setattr(related, "POLICIES", few)
    monkeypatch.setattr(related, "LEARNT_BEFORE", "synthetic:30000")
    page = tmp_path / "page.md"
    page.write_text("<!-- related -->\n<!-- end -->\n")
    env = TieConfig(**SMALL | {"max_iters": 4, "iters_per_step": 2})
    options = Options(study=("related",), seeds=1, runs_dir=tmp_path / "runs", page=page)
    monkeypatch.setattr(results, "studies", lambda: [Study("depth-nested", env, {}, ())])
    monkeypatch.setattr(results, "read_command_line", lambda *args, **kwargs: options)
    results.main([])
    lines = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")
        for line in page.read_text().splitlines()
        if line.startswith("| ")
    }
    assert {*few, "ladder, sequence:2 of synthetic:30000", "elastic-depth, sequence:2"} < set(lines)
    stored = {name: cells[3] for name, cells in lines.items() if name in few}
    size = {name: int(text.replace(",", "")) for name, text in stored.items()}
    assert size["tied --env.quantize int4"] < size["tied"] < size["independent"]
    assert size["tied"] == 4 * int(lines["tied"][2].replace(",", ""))  # float32, and all trains
    assert size["recurrent-stacking --at 0.5"] == size["tied"]
    assert float(lines["independent"][6]) == pytest.approx(1)
    assert (tmp_path / "page" / "related" / "stored.png").stat().st_size > 10_000


def test_runs_of_older_versions_which_say_no_bytes_on_disk_are_in_the_table_alone(tmp_path):
    rows = [
        make_row([2.0, 2.1, 2.2], policy, "fixed", n_independent=n)
        for n, policy in ((2, "independent"), (1, "tied"))
    ]
    for name in ("older", "both"):
        (tmp_path / name).mkdir()
    related.write(judge(rows), tmp_path / "older")
    assert [path.name for path in (tmp_path / "older").iterdir()] == ["related.md"]
    for run in rows[0].runs:
        run.summary["final"]["stored_bytes"] = 80
    text = related.write(judge(rows), tmp_path / "both")
    stored = {line.split(" | ")[0]: line.split(" | ")[3] for line in text.splitlines()[2:]}
    assert (stored["| independent"], stored["| tied"]) == ("80", "")
    assert (tmp_path / "both" / "stored.png").exists()


def of_bytes(size, losses, policy, program, **env):
    row = make_row(losses, policy, program, **env)
    for run in row.runs:
        run.summary["final"]["stored_bytes"] = size
    return row


def test_a_method_is_below_the_front_if_it_is_better_than_every_pattern_of_no_more_bytes():
    large = of_bytes(90, [1.0, 1.01, 0.99, 1.0], "independent", "fixed-independent")
    small = of_bytes(40, [2.0, 2.01, 1.99, 2.0], "tied", "fixed-tied")
    shallow = of_bytes(40, [1.6, 1.61, 1.59, 1.6], "shallow:1", "shallow-1")
    front = [large, small, shallow]

    def asked(size, losses, **env):
        row = of_bytes(size, losses, "method", "fixed-independent", **env)
        return related.below_front(row, [*front, row])

    int4 = {"quantize": "int4"}
    assert asked(50, [1.5, 1.5, 1.5, 1.51], **int4) == "yes"
    assert asked(40, [1.5, 1.5, 1.5, 1.51], private="norms") == "yes"
    assert asked(50, [1.8, 1.8, 1.8, 1.81], **int4) == "no"  # a shallower model is better
    assert asked(50, [1.5, 1.7, 1.4, 1.8], **int4) == "no"  # not shown
    assert asked(95, [1.5, 1.5, 1.5, 1.51], **int4) == "no"  # large is better, and smaller
    assert asked(30, [1.5, 1.5, 1.5, 1.51], **int4) == "smaller"
    assert asked(50, [1.5, 1.5, 1.51], **int4) == ""  # too few seeds to say
    assert asked(50, [1.5, 1.5, 1.5, 1.51]) == ""  # a pattern itself
    assert related.below_front(small, front) == ""
    assert related.below_front(make_row([1.0] * 4, "of 0.1", "ladder"), front) == ""
