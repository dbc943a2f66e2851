import re
import sys

import gymnasium
import pytest

from tests.tiegym.small import SMALL
from tiegym.runs.progress import Progress, ShowProgress


def run(steps, **options):
    env = gymnasium.make("tiegym:TieEnv-v0", **{**SMALL, "max_iters": 40})  # 20 steps an episode
    env = ShowProgress(env, steps, "ppo", **options)
    env.reset(seed=0)
    for _ in range(steps):
        if env.step(0)[2]:
            env.reset()
    env.close()


def test_what_is_no_terminal_gets_a_line_each_tenth_of_the_run(capsys):
    run(30)
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 10
    line = r"ppo: 6/60 iterations, perplexity [\d.]+, 1 independent, \d\d:\d\d left"
    assert re.fullmatch(line, lines[0])
    assert lines[-1].startswith("ppo: 60/60 iterations, ")
    assert lines[-1].endswith(" 00:00 left")


def test_a_short_run_has_a_line_for_each_step(capsys):
    run(3)
    assert len(capsys.readouterr().err.splitlines()) == 3


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_is_silent(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    run(20, disable=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_one_bar_of_iterations(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(20)
    printed = capsys.readouterr().err
    last = printed.rstrip().split("\r")[-1]
    assert printed.count("\n") == 1
    assert last.startswith("ppo: 100%")
    assert "40/40" in last
    assert re.search(r"perplexity [\d.]+, 1 independent", last)


def test_the_time_left_counts_on_what_was_done_here(capsys, monkeypatch):
    now = 0.0
    monkeypatch.setattr("tiegym.runs.progress.time.monotonic", lambda: now)
    progress = Progress(100, "6 runs", done=50)
    now = 20.0  # 10 of the iterations that were left took 20 seconds
    progress.update(60, "1 of 6 runs done")
    progress.update(61)
    now = 40.0
    progress.update(70)
    assert capsys.readouterr().err.splitlines() == [
        "6 runs: 60/100 iterations, 1 of 6 runs done, 01:20 left",
        "6 runs: 70/100 iterations, 01:00 left",
    ]
