import contextlib
import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

from tiegym.runs import json_files, provenance
from tiegym.runs.recorder import RecordRun, is_finished, read_run, unique_run_folder, write_json


@dataclass(frozen=True)
class Config:
    n_layer: int = 3
    initial_ties: tuple[int, ...] = (0, 0, 2)
    device: str = "cpu"


class FakeTieEnv(gymnasium.Env):
    """Has what RecordRun reads of a TieEnv: four iterations a step, three steps an episode."""

    action_space = gymnasium.spaces.Discrete(3)
    observation_space = gymnasium.spaces.Discrete(3)

    def __init__(self):
        self.config = Config()
        self.task = SimpleNamespace(sha256="c0ffee")
        self.step_stats, self.weights_sha256 = {}, None
        self.iteration = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.iteration = 0
        return 0, {}

    def step(self, action):
        self.iteration += 4
        self.step_stats = {"seconds_per_iteration": 0.5, "peak_process_bytes": 7}
        info = {
            "perplexity": 100.0 / self.iteration,
            "bits_per_byte": 2.0,
            "train_loss": 3.0,
            "ties": np.array([0, 0, 2]),
            "n_independent": 2,
            "trainable_params": 1000,
            "model_state_bytes": 16000,
            "iteration": self.iteration,
            "action_mask": np.ones(3, dtype=np.int8),
        }
        if self.iteration == 12:
            info["test_perplexity"] = 9.0
        return 0, -float(self.iteration), self.iteration == 12, False, info


@pytest.fixture(autouse=True)
def _fast_facts(monkeypatch):
    """Every test makes a folder; only one looks at git."""
    monkeypatch.setattr(provenance, "git_revision", lambda: {"revision": "abc", "dirty": False})


@pytest.fixture
def record():
    """Makes recorded environments, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def make(folder, config=None, env=None, **arguments):
            config = {"program": "test"} | (config or {})
            recorded = RecordRun(env or FakeTieEnv(), folder, config, **arguments)
            return stack.enter_context(contextlib.closing(recorded))

        yield make


def run_episode(env, steps=3, seed=0):
    env.reset(seed=seed)
    for _ in range(steps):
        env.step(np.int64(1))


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_config_says_what_was_run_and_on_what(record, tmp_path):
    record(tmp_path / "run", {"options": {"runs_dir": Path("runs"), "rates": (0.5, np.float32(1))}})
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["program"] == "test"
    assert config["options"] == {"runs_dir": "runs", "rates": [0.5, 1.0]}
    assert config["env"] == {"n_layer": 3, "initial_ties": [0, 0, 2], "device": "cpu"}
    assert config["corpus_sha256"] == "c0ffee"
    assert config["device"] == "cpu"
    assert config["device_name"]
    assert config["git"] == {"revision": "abc", "dirty": False}
    assert config["versions"].keys() >= {"python", "tiegym", "torch", "numpy", "gymnasium"}
    assert config["versions"]["torch"].startswith("2.")


def test_each_step_is_a_whole_row_on_disk_before_the_next(record, tmp_path):
    env = record(tmp_path / "run")
    env.reset(seed=0)
    for count in (1, 2):
        env.step(np.int64(1))
        steps = read_run(tmp_path / "run").steps  # the environment isn't closed
        assert len(steps) == count
    assert 0 <= steps[0]["seconds"] <= steps[1].pop("seconds") < 60
    assert steps[1] == {
        "episode": 0,
        "step": 2,
        "action": 1,
        "reward": -8.0,
        "terminated": False,
        "truncated": False,
        "perplexity": 12.5,
        "bits_per_byte": 2.0,
        "train_loss": 3.0,
        "ties": [0, 0, 2],
        "n_independent": 2,
        "trainable_params": 1000,
        "model_state_bytes": 16000,
        "iteration": 8,
        "seconds_per_iteration": 0.5,
        "peak_process_bytes": 7,
    }


def test_what_the_environment_returns_is_passed_on_unchanged(record, tmp_path):
    plain, recorded = FakeTieEnv(), record(tmp_path / "run")
    plain.reset(seed=0)
    recorded.reset(seed=0)
    for mine, theirs in zip(plain.step(1), recorded.step(1), strict=True):
        np.testing.assert_equal(theirs, mine)


def test_the_summary_holds_every_finished_episode_and_the_last_one_as_final(record, tmp_path):
    env = record(tmp_path / "run")
    run_episode(env, steps=2)
    assert read_run(tmp_path / "run").summary is None
    run_episode(env, seed=5)
    run_episode(env, seed=None)
    run_episode(env, steps=1)
    run = read_run(tmp_path / "run")
    assert [row["episode"] for row in run.steps] == [0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert [episode["episode"] for episode in run.summary["episodes"]] == [1, 2]
    assert [episode["seed"] for episode in run.summary["episodes"]] == [5, None]
    final = run.summary["final"]
    assert final["test_perplexity"] == 9.0
    assert final["iteration"] == 12
    assert final["return"] == -24.0
    assert final["seconds_per_iteration"] == 0.5
    assert 0 <= final["seconds"] < 60


def test_an_eager_reset_makes_no_empty_episode(record, tmp_path):
    env = record(tmp_path / "run")
    for _ in range(3):
        env.reset(seed=0)
    run_episode(env, steps=1)
    assert [row["episode"] for row in read_run(tmp_path / "run").steps] == [0]


@pytest.mark.parametrize(
    ("total_steps", "finished"), [(None, [0, 0, 1, 1, 1]), (3, [0, 0, 1, 1, 1]), (5, [0] * 4 + [1])]
)
def test_a_run_is_finished_when_it_has_taken_all_its_steps(record, tmp_path, total_steps, finished):
    env = record(tmp_path / "run", total_steps=total_steps)
    seen = []
    env.reset(seed=0)
    for _ in range(5):
        terminated = env.step(1)[2]
        seen.append(int(is_finished(tmp_path / "run")))
        if terminated:
            env.reset()
    assert seen == finished


def test_a_truncation_from_an_inner_wrapper_ends_the_episode(record, tmp_path):
    env = record(tmp_path / "run", env=TimeLimit(FakeTieEnv(), 2))
    run_episode(env, steps=2)
    run = read_run(tmp_path / "run")
    assert run.steps[-1]["truncated"]
    assert run.summary["final"]["steps"] == 2


def test_numbers_that_are_not_finite_are_null_and_other_objects_are_left_out(record, tmp_path):
    inner = FakeTieEnv()
    values = {"iteration": 4, "loss": math.nan, "list": [math.inf, 1.0], "object": object()}
    inner.step = lambda action: (0, -math.inf, False, False, values)
    env = record(tmp_path / "run", env=inner)
    env.reset()
    env.step(1)
    text = (tmp_path / "run" / "steps.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    (row,) = read_run(tmp_path / "run").steps
    assert row["reward"] is None
    assert row["loss"] is None
    assert row["list"] == [None, 1.0]
    assert "object" not in row


def test_tensorboard_has_the_curves_over_iterations_of_all_episodes(record, tmp_path):
    env = record(tmp_path / "run")
    run_episode(env)
    run_episode(env, steps=1)
    curves = scalars(tmp_path / "run")  # not closed: a killed run shows its curves too
    assert curves.keys() == {
        "train/loss",
        "eval/perplexity",
        "eval/bits_per_byte",
        "eval/reward",
        "time/seconds_per_iteration",
        "tie/n_independent",
        "tie/trainable_params",
        "tie/model_state_bytes",
        "test/perplexity",
    }
    assert curves["eval/reward"] == [(4, -4), (8, -8), (12, -12), (16, -4)]
    assert curves["test/perplexity"] == [(12, 9)]


def test_recording_goes_on_after_a_close(record, tmp_path):
    env = record(tmp_path / "run")
    run_episode(env)
    env.close()
    env.close()
    run_episode(env)
    assert len(read_run(tmp_path / "run").steps) == 6


def test_a_note_stands_in_the_summary_whenever_it_was_made(record, tmp_path):
    env = record(tmp_path / "run")
    env.note(extra_iterations=np.int64(40))
    run_episode(env)
    env.note(protocol="pretrained", extra_iterations=50)
    summary = read_run(tmp_path / "run").summary
    assert (summary["extra_iterations"], summary["protocol"]) == (50, "pretrained")
    with pytest.raises(ValueError, match=r"\['final'\]"):
        env.note(final=1)


@pytest.mark.parametrize(("steps", "what"), [(3, "a finished run"), (1, "cut off"), (0, "cut off")])
def test_a_folder_with_a_run_is_refused_and_left_alone(record, tmp_path, steps, what):
    folder = tmp_path / "run"
    run_episode(record(folder), steps)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match=rf"run holds .*{what}.*choose another folder"):
        record(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_foreign_folder_is_refused_and_an_empty_one_taken(record, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        record(tmp_path / "file" / "run")
    with pytest.raises(FileExistsError, match="no run's"):
        record(tmp_path)
    (tmp_path / "empty").mkdir()
    record(tmp_path / "empty")


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"env": {}}, ValueError, r"\['env'\]"),
        ({"rate": math.nan}, ValueError, "JSON compliant"),
        ({"policy": object()}, TypeError, "can't be recorded"),
    ],
)
def test_a_config_that_cannot_be_written_is_refused_without_a_folder(
    record, tmp_path, config, error, message
):
    with pytest.raises(error, match=message):
        record(tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_an_environment_that_is_no_tie_env_is_refused(tmp_path):
    with pytest.raises(TypeError, match="RecordRun records a TieEnv"):
        RecordRun(gymnasium.make("CartPole-v1"), tmp_path / "run", {})
    assert not (tmp_path / "run").exists()


def test_the_half_written_last_row_of_a_killed_run_is_dropped(record, tmp_path):
    run_episode(record(tmp_path / "run"), steps=2)
    rows = tmp_path / "run" / "steps.jsonl"
    rows.write_bytes(rows.read_bytes()[:-5])
    assert [row["step"] for row in read_run(tmp_path / "run").steps] == [1]
    rows.unlink()
    assert read_run(tmp_path / "run").steps == []


def test_damaged_files_are_named(record, tmp_path):
    folder = tmp_path / "run"
    run_episode(record(folder))
    rows = (folder / "steps.jsonl").read_text().splitlines(keepends=True)
    (folder / "steps.jsonl").write_text("".join([rows[0], rows[1][:20] + "\n", rows[2]]))
    with pytest.raises(ValueError, match=r"steps\.jsonl, line 2, is damaged"):
        read_run(folder)
    (folder / "steps.jsonl").write_text("".join(rows))
    for name in ("summary.json", "config.json"):
        for content in (b"{", b"[]", b"\xff"):
            (folder / name).write_bytes(content)
            with pytest.raises(ValueError, match=rf"{name} is damaged"):
                read_run(folder)


def test_a_missing_run_and_a_newer_format_are_named(record, tmp_path):
    with pytest.raises(FileNotFoundError, match="no run folder"):
        read_run(tmp_path / "nothing")
    record(tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(ValueError, match="has format 2, but this tiegym reads 1"):
        read_run(tmp_path / "run")
    assert not is_finished(tmp_path / "nothing")


def test_unique_run_folders_are_empty_and_all_different(tmp_path):
    folders = [unique_run_folder(tmp_path / "runs", "cycle:2-seed0") for _ in range(3)]
    assert [f.name for f in folders] == ["cycle:2-seed0", "cycle:2-seed0-2", "cycle:2-seed0-3"]
    assert all(folder.is_dir() for folder in folders)
    for name in ("", ".", "..", "a/b"):
        with pytest.raises(ValueError, match="name of one folder"):
            unique_run_folder(tmp_path, name)
    with pytest.raises(ValueError, match=r"name='xxx.* has 256 characters: give a shorter one"):
        unique_run_folder(tmp_path, 256 * "x")


def test_write_json_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {"value": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"value": math.inf})

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(json_files.os, "replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_json(path, {"value": 2})
    assert json.loads(path.read_text()) == {"value": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_git_revision_tells_whether_tracked_files_differ(tmp_path, monkeypatch):
    monkeypatch.undo()

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True)

    assert provenance.git_revision(tmp_path / "nowhere") is None
    (tmp_path / "file").write_text("a")
    git("init", "-q")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    first = provenance.git_revision(tmp_path)
    assert len(first["revision"]) == 40
    assert first["dirty"] is False
    (tmp_path / "file").write_text("b")
    assert provenance.git_revision(tmp_path) == first | {"dirty": True}
