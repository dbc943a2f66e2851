"""Processes that do work end with the program, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tiegym.runs.processes import do_all


def write(task):
    path, number = task
    path.write_text(f"{os.getpid()} {number}")


def fail(task):
    raise ValueError(f"task {task}")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once(workers, tmp_path):
    tasks = [(tmp_path / str(n), n) for n in range(4)]
    assert sorted(do_all(write, tasks, workers)) == tasks
    said = [path.read_text().split() for path, _ in tasks]
    assert [int(number) for _, number in said] == [0, 1, 2, 3]
    assert all((int(pid) == os.getpid()) == (workers == 1) for pid, _ in said)


def test_what_goes_wrong_is_raised():
    with pytest.raises(ValueError, match="task"):
        list(do_all(fail, [1, 2], 2))


def alive(numbers):
    return [n for n in numbers if Path(f"/proc/{n}").exists()]


def wait_until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads processes from /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, None])
def test_a_program_that_ends_leaves_no_process(number, tmp_path):
    command = [sys.executable, "-m", "tiegym.bench.make", "tree-4x2-made-owner", "--workers", "2"]
    process = subprocess.Popen(
        [*command, "--corpus", "synthetic:20000", "--seeds", "2", "--out", str(tmp_path)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    task = Path(f"/proc/{process.pid}/task")

    def children():
        return " ".join(f.read_text() for f in task.glob("*/children")).split()

    wait_until(lambda: len(children()) >= 3)  # the workers, and what cleans up after them
    numbers = children()
    if number is None:  # a process of it is killed, as for want of memory
        os.kill(max(map(int, numbers)), signal.SIGKILL)
    elif number == signal.SIGINT:
        os.killpg(process.pid, number)  # as Ctrl-C does
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    wait_until(lambda: not alive(numbers), 60)
    assert "Traceback" not in said
    if number is None:
        assert process.returncode == 1
        assert said.splitlines()[-1].startswith("error: a process was killed from outside")
    elif number != signal.SIGKILL:
        assert process.returncode == 128 + number
        assert said.splitlines()[-1] == "stopped: the same command goes on where it stopped"
