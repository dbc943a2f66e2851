"""The evidence's studies: that they run, and where their tables go."""

import tarfile
from pathlib import Path

import pytest

from baselines import results, running
from baselines.continued import Continued
from baselines.policies import parse_policy
from baselines.results import Options, run_study
from baselines.studies import Study
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError

ENV = TieConfig(**SMALL)


def test_a_study_of_another_architecture_makes_a_table(tmp_path, monkeypatch, in_process):
    policies = ("qlearning", "tied", "random", "shallow:1")
    base = TieConfig(**SMALL | {"max_iters": 4, "corpus": "stdlib"})
    small = Study("models-vit", base, {"model": "vit"}, policies, "models")
    monkeypatch.setattr(results, "studies", lambda: [small])
    (tmp_path / "page.md").write_text("<!-- models-vit -->\n<!-- end -->\n")
    options = Options(
        study=("models",), seeds=1, runs_dir=tmp_path / "runs", page=tmp_path / "page.md"
    )
    monkeypatch.setattr(results, "read_command_line", lambda *args, **kwargs: options)
    results.main([])
    page = (tmp_path / "page.md").read_text()
    assert all(f"| {policy} |" in page for policy in policies)
    assert "vit" in page


@pytest.mark.slow
def test_a_study_has_a_row_for_each_policy_and_for_what_is_made_of_them(
    tmp_path, monkeypatch, in_process
):
    options = Options(seeds=2, runs_dir=tmp_path, quiet=True, page=tmp_path)
    monkeypatch.setattr(results, "PRETRAIN_RUNS", 1)
    policies = ("pairwise --pretrain-runs 1", "random")
    first = Study("first", ENV, {}, policies, rates=(1e-9, 1e-2), retrained="random")
    second = Study("second", ENV, {"n_layer": 5}, ("tied",), transferred="first")
    monkeypatch.setattr(results, "studies", lambda: [first, second])
    rows = run_study(first, options)
    assert [row.policy for row in rows] == [
        *(f"{policy} (lr 0.01)" for policy in policies),
        "retrain, ties of random",
    ]
    for run, source in zip(rows[2].runs, reversed(rows[1].runs), strict=True):  # of the other seed
        assert run.summary["final"]["ties"] == source.summary["final"]["ties"]
        assert run.config["env"]["learning_rate"] == 1e-2
    assert run_study(first, options)[1].losses == rows[1].losses  # kept, or made again alike
    rows = run_study(second, options)
    assert [row.policy for row in rows] == [
        "tied",
        "pairwise, trained at 4 layers of synthetic:20000",
    ]
    assert rows[1].protocol == "pretrained"
    assert rows[1].extra_iterations == ENV.max_iters
    losses = rows[1].losses
    for run in rows[1].runs:  # sources that an archive brought, which leaves agents out
        (Path(run.config["source_run"]) / "agent.safetensors").unlink()
    assert run_study(second, options)[1].losses == losses
    for run in rows[1].runs:
        assert (Path(run.config["source_run"]) / "agent.safetensors").exists()
    assert rows[1].seeds == [0, 1]
    for run in rows[1].runs:  # each by the agent that was trained with its seed
        seed = run.config["options"]["seed"]
        assert run.config["source_run"].endswith(f"-seed{seed}")
        assert run.config["env"]["learning_rate"] == ENV.learning_rate  # the study's own


def test_with_one_seed_no_ties_are_judged_on_the_seed_that_found_them(
    tmp_path, monkeypatch, in_process
):
    study = Study("small", ENV, {}, ("tied", "random"), retrained="random")
    monkeypatch.setattr(results, "studies", lambda: [study])
    options = Options(seeds=1, runs_dir=tmp_path, quiet=True)
    assert [row.policy for row in run_study(study, options)] == ["tied", "random"]
    random = parse_policy("random", ENV)
    continued = Continued("retrain", "retrain --run", random, tmp_path, of_the_next=True)
    with pytest.raises(InputError, match="retrain: seeds=1 must be at least 2"):
        continued.run(ENV, [0], options)


def test_a_study_takes_over_the_rates_that_another_one_chose(tmp_path, monkeypatch, in_process):
    options = Options(seeds=2, runs_dir=tmp_path, quiet=True, page=tmp_path)
    source = Study("source", ENV, {}, ("tied", "random"), rates=(1e-9, 1e-2))
    taking = Study("taking", ENV, {"n_layer": 5}, ("random",), rates_of="source")
    monkeypatch.setattr(results, "studies", lambda: [source, taking])
    (row,) = run_study(taking, options)
    assert row.policy == "random (lr 0.01)"
    assert {run.config["env"]["n_layer"] for run in row.runs} == {5}
    assert {run.config["env"]["learning_rate"] for run in row.runs} == {1e-2}
    tuned = (tmp_path / source.setting / "tuning").glob("[!.]*")
    assert {path.name.partition("-")[0] for path in tuned} == {"random"}  # no other policy


def test_the_runs_of_a_main_study_are_left_beside_its_table(tmp_path, monkeypatch, in_process):
    policies = ("independent", "tied", "random")
    study = Study("small", ENV, {}, policies, "main")
    monkeypatch.setattr(results, "studies", lambda: [study])
    page, runs = tmp_path / "page.md", tmp_path / "runs"
    page.write_text("<!-- small -->\n<!-- end -->\n")
    results.main(["--study", "main", "--seeds", "2", "--page", str(page), "--runs-dir", str(runs)])
    with tarfile.open(tmp_path / "page" / "small" / "runs.tar.xz") as tar:
        folders = {name.rpartition("/")[0] for name in tar.getnames()}
    assert folders == {
        str(found.relative_to(runs)) for found in (runs / study.setting).glob("[!.]*")
    }
    assert len(folders) == 2 * len(policies)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0"], "seeds=0 must be at least 1"),
        (["--study", "nonsense"], "study=['nonsense'] is unknown: choose from depth-stdlib-6"),
        (["--study", "wikitext-6"], "wikitext-6 needs --wikitext"),
        (["--study", "sharing", "--seeds", "7"], "seeds=7 must be at least 8 in the study sharing"),
        (["--study", "stdlib-6", "--workers", "0"], "workers=0 must be at least 1"),
        (["--study", "stdlib-6", "--runs-dir", "/dev/null/x"], "can't be used"),
        (
            ["--study", "stdlib-6", "--page", "nowhere.md"],
            "No such file or directory: 'nowhere.md'",
        ),
        (["--study", "stdlib-6", "--page", ""], "Is a directory"),
        (["--study", "related", "--page", "README.md"], "the page has no place for 'related'"),
        (["--study", "stdlib-6", "--device", "tpu"], "device='tpu'"),
        (["--study", "sharing", "--device", "tpu"], "device='tpu'"),
        (["--study", "wikitext-6", "--wikitext", "/nowhere"], "/nowhere"),
    ],
)
def test_wrong_input_is_one_line_and_status_2_before_anything_runs(
    arguments, message, capsys, monkeypatch
):
    monkeypatch.setattr(running, "_start", None)
    with pytest.raises(SystemExit) as ended:
        results.main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert message in said
    assert said.count("\n") == 1


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
