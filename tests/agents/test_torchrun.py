"""Programs on two ranks: the agent and the run folder are rank 0's; the other trains with it."""

import os
import signal
import subprocess
import sys
import time

import pytest

from agents import evolution, lookahead, qlearning
from baselines import compare, fixed, frozen_model
from tests.ranks import Started
from tests.runs import facts
from tests.tiegym.small import SMALL
from tiegym.runs.folder import read_run
from tiegym.runs.input_errors import InputError
from tiegym.training.trainer import Trainer

SIZES = SMALL | {"batch_size": 4}
ENV = [f"--env.{name.replace('_', '-')}={value}" for name, value in SIZES.items()]


def arguments(folder, *more):
    return ["--runs-dir", str(folder), "--name", "run", "--quiet", *ENV, *more]


def on_two(program, folder, *args):
    """Both ranks of a program, once they have ended."""
    folder.mkdir(exist_ok=True)
    return Started(lambda rank: program.main([*args]), folder)


def run_on_two(program, folder, *args):
    """The run of a program that must succeed on both ranks."""
    started = on_two(program, folder, *arguments(folder, *args))
    assert started.codes() == [0, 0], started.said(0) + started.said(1)
    return read_run(folder / "run")


def wait_for_rows(folder, n, seconds=60):
    path, until = folder / "steps.jsonl", time.monotonic() + seconds
    while not (path.exists() and path.read_bytes().count(b"\n") >= n):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two ranks that nothing cut off."""
    folder = tmp_path_factory.mktemp("whole")
    started = on_two(qlearning, folder, *arguments(folder, "--checkpoint-every-steps", "2"))
    assert started.codes() == [0, 0], started.said(0) + started.said(1)
    return folder


def test_a_run_of_two_ranks_is_that_of_one_but_for_rounding(tmp_path, whole):
    qlearning.main(arguments(tmp_path))
    one, two = read_run(tmp_path / "run"), read_run(whole / "run")
    assert [row["ties"] for row in one.steps] == [row["ties"] for row in two.steps]
    for name in ("train_loss", "val_loss", "reward"):
        losses = [row[name] for row in two.steps]
        assert losses == pytest.approx([row[name] for row in one.steps], rel=1e-5)
    assert two.summary["final"]["test_perplexity"] == pytest.approx(
        one.summary["final"]["test_perplexity"], rel=1e-5
    )
    assert (one.config.get("ranks"), two.config["ranks"]) == (None, 2)
    sent = {row["n_independent"]: row["added_up_bytes_per_iteration"] for row in two.steps}
    assert sorted(sent.values()) == [sent[n] for n in sorted(sent)]


def test_rank_0_alone_writes_and_speaks(whole):
    assert [path.name for path in whole.iterdir() if path.is_dir()] == ["run"]
    assert (whole / "rank-0.txt").read_text() == f"run folder: {whole / 'run'}\n"
    assert (whole / "rank-1.txt").read_text() == ""


def test_a_rank_that_is_killed_ends_the_others_and_the_run_goes_on_with_as_many(tmp_path, whole):
    more = arguments(tmp_path, "--checkpoint-every-steps", "2")

    def slowly(rank):
        step = qlearning.QLearning._on_step  # the agent's, so rank 0's
        qlearning.QLearning._on_step = lambda self: (time.sleep(0.3), step(self))[1]
        qlearning.main(more)

    started = Started(slowly, tmp_path)
    wait_for_rows(tmp_path / "run", 3)
    os.kill(started.processes[1].pid, signal.SIGKILL)
    began = time.monotonic()
    assert started.codes() == [1, -signal.SIGKILL]
    assert time.monotonic() - began < 30
    assert "rank 0 of 2 can't reach another rank" in started.said(0)
    assert "--resume" in started.said(0)
    assert "Traceback" not in started.said(0)
    with pytest.raises(SystemExit):  # one process isn't two
        qlearning.main(["--resume", str(tmp_path / "run")])
    resumed = on_two(qlearning, tmp_path, "--resume", str(tmp_path / "run"))
    assert resumed.codes() == [0, 0], resumed.said(0) + resumed.said(1)
    theirs, ours = facts(whole / "run"), facts(tmp_path / "run")
    for run in (theirs, ours):
        del run["config"]["options"]
    assert ours == theirs


def test_a_step_that_fails_on_rank_0_alone_ends_the_others(tmp_path):
    def fails(rank):
        backward = Trainer._backward

        def none_left(self, *args):
            raise MemoryError

        Trainer._backward = backward if rank else none_left
        fixed.main(arguments(tmp_path))

    started = Started(fails, tmp_path)
    assert started.codes() == [1, 1]
    assert "out of memory: lower batch_size=4" in started.said(0)
    assert "rank 1 of 2 can't reach another rank" in started.said(1)


def test_when_rank_0_is_killed_the_others_end(tmp_path):
    def dies(rank):
        if rank == 0:
            fixed.open_run = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        fixed.main(arguments(tmp_path))

    started = Started(dies, tmp_path)
    assert started.codes() == [-signal.SIGKILL, 1]
    assert "rank 1 of 2 can't reach another rank" in started.said(1)


def test_forks_and_searches_train_on_both_ranks(tmp_path):
    searched = ["--evaluations=3", "--population=2", "--sample=1", "--budget=2"]
    found = run_on_two(evolution, tmp_path / "evolution", *searched)
    assert found.summary["extra_iterations"] == 6
    tries = ["--env.max-iters=4", "--env.initial-ties=0,1,0,0"]
    tried = run_on_two(lookahead, tmp_path / "lookahead", *tries)
    assert tried.summary["extra_iterations"] > 4
    lookahead.main([*arguments(tmp_path / "one"), *tries])
    one = read_run(tmp_path / "one" / "run")
    assert [row["ties"] for row in one.steps] == [row["ties"] for row in tried.steps]
    losses = [row["val_loss"] for row in tried.steps]
    assert losses == pytest.approx([row["val_loss"] for row in one.steps], rel=1e-5)


@pytest.mark.parametrize(
    ("program", "args", "problem"),
    [
        (fixed, ["--env.batch-size=3"], "batch_size=3 can't be divided among 2 ranks"),
        (qlearning, ["--pretrain-runs=2", "--envs=2"], "a population is trained by one process"),
        (compare, [], "it starts other processes itself: run it with python"),
    ],
)
def test_what_ranks_cannot_do_is_one_line(tmp_path, program, args, problem):
    args = args if program is compare else arguments(tmp_path, *args)
    started = on_two(program, tmp_path, *args)
    assert started.codes()[0] == 2
    assert problem in started.said(0)
    assert "Traceback" not in started.said(0) + started.said(1)


def test_a_part_beside_a_frozen_model_is_trained_by_one_process(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "tests")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="it trains a part beside a frozen model: run it with"):
        frozen_model.open_frozen(None, "ladder")


def test_ranks_with_other_command_lines_are_refused(tmp_path):
    started = Started(lambda rank: fixed.main(arguments(tmp_path, f"--seed={rank}")), tmp_path)
    assert started.codes() == [2, 2]
    for rank in (0, 1):
        assert "ranks 0 and 1 disagree about command line" in started.said(rank)
        assert "--seed=1" in started.said(rank)


@pytest.mark.slow
def test_an_agent_under_torchrun_stops_at_a_signal_and_says_how_it_goes_on(tmp_path):
    more = arguments(tmp_path, "--total-steps=4000")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "-m", "agents.qlearning", *more],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for_rows(tmp_path / "run", 3)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)
    assert "stopped; to go on: torchrun --nproc-per-node 2 -m agents.qlearning" in said[1]
    assert [*(tmp_path / "run").glob("checkpoint-*.safetensors")]
    assert read_run(tmp_path / "run").config["ranks"] == 2
