"""Running what is missing: failures, stops, and runs of others."""

import fcntl
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from baselines import run_task as running_task
from baselines import running
from baselines.compare import Options, compare, main
from baselines.policies import parse_policy
from baselines.run_task import Outcome, Task, claimed, run_task
from baselines.workers import Workers
from tests.baselines.small_runs import ARGUMENTS, run
from tests.tiegym.analysis.made_up import ENV
from tiegym.runs.input_errors import InputError
from tiegym.runs.processes import RunsFailed, stoppable
from tiegym.runs.recorder import read_run

# What goes wrong


def test_a_wrong_input_ends_a_comparison_in_one_line_with_status_2(tmp_path, capsys, in_process):
    arguments = ["random", "--seeds", "2", "--runs-dir", str(tmp_path), "--quiet", *ARGUMENTS]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--env.corpus=synthetic:300"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: random-tying-")
    assert "bring a larger corpus" in said
    assert "the runs beside it were stopped" in said


def broken(folder, kind=ZeroDivisionError):
    """A program that fails, as a module that can be imported."""
    (folder / "own_broken.py").write_text(
        "from dataclasses import dataclass\n"
        "from tiegym.runs.options import RunOptions\n"
        "@dataclass(frozen=True)\n"
        "class Options(RunOptions):\n    pass\n"
        "def train(options):\n    1 / 0\n"
    )


def test_a_failing_run_is_said_when_it_happens_and_the_others_go_on(
    tmp_path, monkeypatch, capsys, in_process
):
    monkeypatch.syspath_prepend(tmp_path)
    broken(tmp_path)
    runs = tmp_path / "runs"
    arguments = ["own_broken", "tied", "--seeds", "2", "--runs-dir", str(runs), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *ARGUMENTS])
    assert ended.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "own-broken" in lines[0]
    assert "failed: ZeroDivisionError: division by zero" in lines[0]
    assert "2 of 4 runs failed" in lines[2]
    assert len(list(runs.glob("fixed-tied-*-seed?/summary.json"))) == 2
    logs = list(runs.glob("own-broken-*.error.txt"))
    assert len(logs) == 2
    assert "Traceback" in logs[0].read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "0"], "workers=0 must be at least 1"),
        (["--workers", "-2"], "workers=-2 must be at least 1"),
        (["--threads", "0"], "threads=0 must be at least 1"),
        (["--runs-dir", "/dev/null/runs"], "runs_dir='/dev/null/runs' can't be used"),
        (["--runs-dir", "/proc/runs"], "can't be used"),
        (["--lr-grid", "0.1", "-1"], "learning_rate=-1.0"),
        (["--env.device=cuda:99"], "cuda:99"),
    ],
)
def test_what_cannot_be_run_is_one_line_and_status_2(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["tied", "--seeds", "1", "--quiet", *ARGUMENTS, *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_an_error_that_nobody_can_write_down_is_an_outcome(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(running_task, "_train", full)
    monkeypatch.setattr(running_task, "write_bytes", full)
    ended = run_task(Task(parse_policy("tied", ENV), 0, tmp_path / "run"), 1)
    assert ended.kind == "failed"
    assert ended.message == (
        "OSError: [Errno 28] No space left on device (its traceback can't be written: [Errno 28] "
        "No space left on device)"
    )


def test_a_file_in_the_place_of_a_run_is_one_line(tmp_path, in_process):
    parse_policy("tied", ENV).folder(tmp_path, 0).write_text("mine")
    with pytest.raises(InputError, match=r"Not a directory.*; remove .* to run it again"):
        run(tmp_path, "tied")


def test_a_damaged_kept_run_is_one_line(tmp_path, capsys, in_process):
    (folder,) = run(tmp_path, "tied")
    for name, text in (("summary.json", "{"), ("config.json", "[1]")):
        whole = (folder / name).read_text()
        (folder / name).write_text(text)
        with pytest.raises(InputError, match=rf"{name} is damaged.*remove .* to run it again"):
            run(tmp_path, "tied")
        (folder / name).write_text(whole)
    (folder / "steps.jsonl").write_text("{]\n")
    with pytest.raises(InputError, match=r"steps.jsonl.*remove the run's folder"):
        compare(Options(policies=("tied",), seeds=1, runs_dir=tmp_path, env=ENV))


# Going on


def test_a_run_that_was_cut_off_goes_on_and_does_not_begin_anew(tmp_path, in_process, monkeypatch):
    (folder,) = run(tmp_path / "whole", "random")
    whole = read_run(folder).steps

    from tiegym.env import TieEnv

    step, count = TieEnv.step, [0]

    def dying(self, action):
        count[0] += 1
        if count[0] > 3:
            raise RuntimeError("dies here")
        return step(self, action)

    with monkeypatch.context() as patched:
        patched.setattr(TieEnv, "step", dying)
        with pytest.raises(RunsFailed):
            run(tmp_path / "cut", "random --checkpoint-every-steps 1")
    (cut,) = (tmp_path / "cut").glob("random-*-seed0")
    before = read_run(cut)
    assert len(before.steps) == 3
    assert run(tmp_path / "cut", "random") == [cut]  # how often is no other policy
    after = read_run(cut)
    assert not list((tmp_path / "cut").glob("*.error.txt"))
    assert after.config["created"] == before.config["created"]
    assert [row["seconds"] for row in after.steps[:2]] == [r["seconds"] for r in before.steps[:2]]
    assert [row["val_loss"] for row in after.steps] == [row["val_loss"] for row in whole]


def test_what_was_no_run_yet_is_begun(tmp_path, in_process):
    folder = parse_policy("tied", ENV).folder(tmp_path, 0)
    folder.mkdir()
    (folder / "rest").write_text("")
    assert run(tmp_path, "tied") == [folder]
    assert read_run(folder).summary["finished"]


# Others


def test_a_run_that_another_process_has_open_is_waited_for(
    tmp_path, in_process, monkeypatch, capsys
):
    folder = parse_policy("tied", ENV).folder(tmp_path, 0)
    monkeypatch.setattr(running, "RETRY_SECONDS", 0.01)
    with claimed(folder):
        other = Task(parse_policy("tied", ENV), 0, folder)
        assert run_task(other, 1).kind == "open elsewhere"
    release = [0]

    def sleep(seconds):
        release[0] += 1
        if release[0] == 2:
            held.__exit__(None, None, None)

    held = claimed(folder)
    held.__enter__()
    monkeypatch.setattr(running.time, "sleep", sleep)
    assert run(tmp_path, "tied") == [folder]
    assert release[0] >= 2
    said = capsys.readouterr().err
    assert said.count("is open in another process: waiting for its end") == 1
    assert not list((tmp_path / ".locks").iterdir())


def test_a_run_that_a_program_has_open_is_left_to_it(tmp_path, in_process):
    (folder,) = run(tmp_path, "tied")
    (folder / "summary.json").unlink()
    with (folder / "calls.jsonl").open("w") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        task = Task(parse_policy("tied", ENV), 0, folder)
        assert run_task(task, 1) == Outcome("open elsewhere")


def test_a_run_that_another_comparison_has_finished_is_not_run_again(tmp_path, in_process):
    (folder,) = run(tmp_path, "tied")
    made = (folder / "summary.json").stat().st_mtime_ns
    assert run_task(Task(parse_policy("tied", ENV), 0, folder), 1) == Outcome("done")
    assert (folder / "summary.json").stat().st_mtime_ns == made


# Stops


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_comparison_with_one_line_and_its_status(number, capsys):
    # Whoever started the tests may have had them ignore it, as nohup does.
    inherited = signal.signal(number, before := signal.default_int_handler)

    def stopped():
        with stoppable():
            os.kill(os.getpid(), number)
            time.sleep(5)

    try:
        with pytest.raises(SystemExit) as ended:
            stopped()
        assert ended.value.code == 128 + number
        assert capsys.readouterr().err == "stopped: the same command goes on where it stopped\n"
        assert signal.getsignal(number) is before
    finally:
        signal.signal(number, inherited)


def test_a_hangup_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def alive(numbers):
    return [n for n in numbers if Path(f"/proc/{n}").exists()]


def wait_until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads processes from /proc")
@pytest.mark.parametrize(
    ("number", "policies"), [(signal.SIGKILL, ["tied"]), (signal.SIGINT, ["tied", "random"])]
)
def test_a_comparison_that_ends_leaves_no_process_and_runs_that_go_on(number, policies, tmp_path):
    """Of two runs it waits for both; a run that loses its parent notices it by itself."""
    long = [a for a in ARGUMENTS if "max-iters" not in a] + ["--env.max-iters=1000000"]
    command = [sys.executable, "-m", "baselines.compare", *policies, "--seeds", "1"]
    process = subprocess.Popen(
        [*command, "--workers", str(len(policies)), "--runs-dir", str(tmp_path), *long],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: len(list(tmp_path.glob("*-seed0/steps.jsonl"))) == len(policies))
    task = Path(f"/proc/{process.pid}/task")
    children = " ".join(f.read_text() for f in task.glob("*/children")).split()
    assert len(children) >= len(policies)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    wait_until(lambda: not alive(children), 60)
    for folder in tmp_path.glob("*-seed0"):
        assert len(list(folder.glob("checkpoint-*.safetensors"))) == 1
    assert "Traceback" not in said
    if number == signal.SIGINT:
        assert process.returncode == 130
        stopping, stopped = [line for line in said.splitlines() if line.startswith("stop")]
        assert stopping.startswith("stopping: runs end at their next step")
        assert stopped == "stopped: the same command goes on where it stopped"


def test_workers_end_with_what_they_have_and_begin_nothing_more(tmp_path):
    """One process, so that this costs one start: runs a task, then is told to stop."""
    pool = Workers(1, 1)
    folder = parse_policy("tied", ENV).folder(tmp_path, 0)
    task = Task(parse_policy("tied", ENV), 0, folder)
    pool.submit(task)
    assert pool.ended(120) == [(task, Outcome("done"))]
    assert read_run(folder).config["threads"] == 1
    pool.stop()


# Help


@pytest.mark.parametrize("module", ["demo", "error_rates", "results", "compare"])
def test_asking_for_help_starts_no_work(module, capsys, tmp_path, monkeypatch):
    import importlib

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"baselines.{module}").main(["--help"])
    assert ended.value.code == 0
    assert "--help" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stream", [None, "/dev/full"])
def test_words_of_a_comparison_that_nobody_can_read_end_nothing(monkeypatch, stream):
    monkeypatch.setattr("sys.stderr", stream and io.TextIOWrapper(io.FileIO(stream, "w")))
    running._say("a run is made anew")
