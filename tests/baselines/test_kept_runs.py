"""Runs that were kept: what in them must be as a run made now would have it."""

import json
import shutil
from pathlib import Path

import pytest

from baselines.compare import main, read_row
from baselines.policies import parse_policy
from baselines.run_task import claimed
from baselines.running import run_missing
from tests.baselines.small_runs import ARGUMENTS, run, small
from tests.tiegym.analysis.made_up import ENV
from tiegym.runs.input_errors import InputError
from tiegym.runs.json_files import write_json
from tiegym.runs.provenance import versions
from tiegym.runs.recorder import read_run


def edit(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source_sha256": "0" * 64}, "their code was another"),
        ({"versions": {"torch": "1.0"}}, "their PyTorch was 1.0, not 2"),
        ({"threads": 7}, r"they had 7 threads, not 1 \(--threads\)"),
        ({"corpus_sha256": "0" * 64}, "their text was another"),
        ({"tokenizer_sha256": "0" * 64}, "their tokenizer was another"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_kept_runs_that_would_come_out_otherwise_are_refused_made_anew_or_kept(
    change, message, finished, tmp_path, in_process
):
    (folder,) = run(tmp_path, "tied")
    edit(folder, **change)
    if not finished:
        (folder / "summary.json").unlink()
    with pytest.raises(InputError, match=rf"{message}.*{folder.name}.*--stale rerun"):
        run(tmp_path, "tied")
    if {"corpus_sha256", "tokenizer_sha256"} & change.keys():
        with pytest.raises(InputError, match=message):
            run(tmp_path, "tied", stale="keep")
    else:
        in_process.started = 0
        run(tmp_path, "tied", stale="keep")
        assert in_process.started == (not finished)
        for key, value in change.items():
            assert read_run(folder).config[key] == value
    run(tmp_path, "tied", stale="rerun")
    for key, value in change.items():
        assert read_run(folder).config[key] != value
    in_process.started = 0
    run(tmp_path, "tied")
    assert in_process.started == 0


def test_a_run_in_the_place_of_another_is_never_kept(tmp_path, in_process):
    """Its options, or its seed, are others than those that its folder is named after."""
    other, ours = run(tmp_path, "cycle:2", "tied")
    shutil.rmtree(ours)
    shutil.copytree(other, ours)
    for stale in ("refuse", "keep"):
        with pytest.raises(InputError, match=f"made in a folder of another name: {ours.name}"):
            run(tmp_path, "tied", stale=stale)
    run(tmp_path, "tied", stale="rerun")
    assert read_run(ours).summary["final"]["n_independent"] == 1
    policy = parse_policy("tied", ENV)
    shutil.copytree(ours, policy.folder(tmp_path, 1))
    with pytest.raises(InputError, match=r"made in a folder of another name: .*-seed1"):
        run_missing([policy], [1], small(tmp_path))
    with pytest.raises(InputError, match=r"-seed1 is of seed 0, and must be of 1"):
        read_row(policy, [1], tmp_path)


def test_kept_runs_of_agents_notice_other_versions_of_their_libraries(tmp_path, in_process):
    for policy in ("qlearning", "tied"):
        (folder,) = run(tmp_path, policy)
        edit(folder, versions=versions() | {"gymnasium": "1.0", "numpy": "1.0"})
    run(tmp_path, "tied")  # no agent
    with pytest.raises(InputError, match=r"their numpy was 1.0, not 2.*their gymnasium was 1.0"):
        run(tmp_path, "qlearning")


@pytest.mark.parametrize(
    ("first", "then", "changed"),
    [
        ("tied", "retrain --run {}", {"ties": [0, 1, 0, 0]}),
        ("tied --export", "norms-only --run {}", {"model_sha256": "0" * 64}),
    ],
)
def test_kept_runs_that_begin_with_another_run_notice_that_it_has_changed(
    first, then, changed, tmp_path, in_process
):
    (source,) = run(tmp_path, first)
    policy = then.format(source)
    (folder,) = run(tmp_path, policy)
    recorded = read_run(folder).config["source"]
    edit(folder, source=recorded | changed)
    with pytest.raises(InputError, match="since the run that they begin with was another"):
        run(tmp_path, policy)
    run(tmp_path, policy, stale="rerun")
    assert read_run(folder).config["source"] == recorded


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_lock_that_is_a_link_leads_nowhere(what, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "a").write_text("kept")
    runs = tmp_path / "runs"
    runs.mkdir()
    if what == "folder":
        (runs / ".locks").symlink_to(mine)
    else:
        (runs / ".locks").mkdir()
        (runs / ".locks" / "a").symlink_to(mine / "a")
    with pytest.raises(InputError, match="link"), claimed(runs / "a"):
        pass
    assert (mine / "a").read_text() == "kept"


@pytest.mark.parametrize(
    ("option", "left"), [("--export", "model.safetensors"), ("--sample-tokens 3", "sample.txt")]
)
def test_a_kept_run_without_the_model_that_is_asked_for_now_is_made_anew(
    option, left, tmp_path, in_process
):
    (folder,) = run(tmp_path, "tied")
    before = read_run(folder).summary["final"]["test_perplexity"]
    assert not (folder / left).exists()
    assert run(tmp_path, f"tied {option}") == [folder]
    assert (folder / left).exists()
    assert read_run(folder).summary["final"]["test_perplexity"] == before
    in_process.started = 0
    run(tmp_path, f"tied {option}")
    run(tmp_path, "tied")  # which may leave more than is asked for
    assert in_process.started == 0
    assert (folder / left).exists()


def test_threads_that_are_asked_for_are_those_of_kept_runs(tmp_path, in_process):
    (folder,) = run(tmp_path, "tied")
    edit(folder, threads=7)
    in_process.started = 0
    run(tmp_path, "tied", threads=7)
    assert in_process.started == 0


def test_a_text_that_was_edited_is_noticed(tmp_path, in_process, capsys):
    text = tmp_path / "t.txt"
    arguments = ["tied", "--seeds", "1", "--runs-dir", str(tmp_path / "runs"), "--quiet"]
    arguments += [*ARGUMENTS, f"--env.corpus={text}"]
    tables = []
    for words, more in (("The quick fox", []), ("QUITE OTHER zzz", ["--stale", "rerun"])):
        text.write_text("".join(f"{words} {k} jumps over it.\n" for k in range(2000)))
        if more:
            with pytest.raises(SystemExit) as ended:
                main(arguments)
            assert ended.value.code == 2
            assert "their text was another" in capsys.readouterr().err
        main([*arguments, *more])
        tables.append(capsys.readouterr().out)
    assert tables[0] != tables[1]


def test_runs_of_a_program_that_has_changed_have_another_source(tmp_path, monkeypatch):
    import agents.dqn  # noqa: F401
    import baselines.fixed  # noqa: F401
    from tiegym.runs.source_code import source_sha256

    hashes = {name: source_sha256(name) for name in ("agents.dqn", "baselines.fixed")}
    assert len(set(hashes.values())) == 2
    read = Path.read_bytes

    def with_change_in(file):
        source_sha256.cache_clear()
        monkeypatch.setattr(
            Path, "read_bytes", lambda path: read(path) + b"#" * str(path).endswith(file)
        )
        changed = {name for name in hashes if source_sha256(name) != hashes[name]}
        monkeypatch.undo()
        source_sha256.cache_clear()
        return changed

    assert with_change_in("agents/protocols.py") == {"agents.dqn"}
    assert with_change_in("baselines/fixed.py") == {"baselines.fixed"}
    assert with_change_in("tiegym/env.py") == set(hashes)
    assert with_change_in("transformer/gpt.py") == set(hashes)
    assert with_change_in("bench/tree.py") == {"agents.dqn"}
    assert with_change_in("report/page.py") == set()
    assert with_change_in("agents/ppo.py") == set()
