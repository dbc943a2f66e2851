"""Runs that are cut off anywhere go on to the same bits; and what can't go on says why."""

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from agents import (
    decision_s4,
    dqn,
    evolution,
    lookahead,
    maskable_ppo,
    ppo,
    qlearning,
    recurrent_ppo,
)
from baselines import fixed, gradient_split, random_tying, retrain, schedules
from tests.runs import facts
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.runs import json_files
from tiegym.runs.begin import AlreadyFinished
from tiegym.runs.commands import python_command
from tiegym.runs.journal import recorded_steps
from tiegym.runs.json_files import append_line, write_json
from tiegym.runs.options import parse_options
from tiegym.runs.program import open_run
from tiegym.runs.recorder import read_run
from tiegym.runs.replay import decode, encode
from tiegym.training.trainer import Trainer
from tiegym.transformer.tensor_file import read_tensors

ENV = TieConfig(**SMALL)

PARTS = dataclasses.replace(ENV, tie_parts="attention+mlp", choices="tie+freeze")

PROGRAMS = {
    "random": (random_tying, {}),
    "random, parts": (random_tying, {"env": PARTS}),
    "lookahead, parts": (lookahead, {"candidates": 2, "env": PARTS}),
    "fixed": (fixed, {"pattern": "cycle:2", "env": dataclasses.replace(ENV, action="pair")}),
    "schedule": (schedules, {}),
    "gradients": (gradient_split, {"every": 1}),
    "qlearning": (qlearning, {}),
    "dqn": (dqn, {"learning_starts": 1}),
    "dqn, pretrained": (dqn, {"learning_starts": 1, "pretrain_runs": 1}),
    "ppo, joint": (ppo, {"n_steps": 4, "env": dataclasses.replace(ENV, action="joint")}),
    "maskable_ppo, joint": (
        maskable_ppo,
        {"n_steps": 4, "env": dataclasses.replace(ENV, action="joint")},
    ),
    "maskable_ppo, pretrained": (maskable_ppo, {"n_steps": 4, "pretrain_runs": 2}),
    "recurrent_ppo": (recurrent_ppo, {"n_steps": 4}),
    "decision_s4, pretrained": (decision_s4, {"pretrain_runs": 2, "layers": 1}),
    "lookahead": (lookahead, {"candidates": 2}),
    "evolution": (evolution, {"population": 2, "sample": 1, "evaluations": 3, "budget": 3}),
}


@pytest.fixture(autouse=True)
def weights(monkeypatch):
    """Every environment that is closed leaves its weights here."""
    left = []
    close = TieEnv.close

    def leave(self):
        if self._episode is not None and self._episode.started:
            left.append([p.detach().flatten().tolist() for p in self.model.parameters()])
        close(self)

    monkeypatch.setattr(TieEnv, "close", leave)
    return left


class Killed(BaseException):
    pass


@pytest.fixture
def kill_after(monkeypatch):
    """Lets a program die after so many resets and steps, those of forks and searches included."""

    def die_after(calls):
        left = [calls]

        def counted(method):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return method(*args, **kwargs)

            return call

        monkeypatch.setattr(TieEnv, "reset", counted(reset))
        monkeypatch.setattr(Trainer, "train", counted(train))

    reset, train = TieEnv.reset, Trainer.train
    return die_after


def options_for(which, folder, **changes):
    program, own = PROGRAMS[which]
    return program.Options(
        **{"seed": 3, "runs_dir": folder, "quiet": True, "env": ENV}
        | {"total_steps": 15}  # two episodes and a half
        | own
        | changes
    )


def test_the_steps_of_a_run_that_goes_on_are_counted_pretraining_included(tmp_path, kill_after):
    options = options_for("dqn, pretrained", tmp_path, name="run")
    pretraining = ENV.steps_per_episode
    assert options.all_steps == pretraining + 15
    kill_after(1 + pretraining + 1 + 4)  # resets are calls, too
    with pytest.raises(Killed):
        dqn.train(options)
    recorded = recorded_steps(tmp_path / "run")
    assert pretraining < recorded < options.all_steps
    kill_after(1000)
    dqn.train(dataclasses.replace(options, resume=tmp_path / "run"))
    assert recorded_steps(tmp_path / "run") == 0  # it has ended


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_run_that_dies_again_and_again_ends_with_the_same_bits(
    tmp_path, name, weights, kill_after
):
    program, _ = PROGRAMS[name]
    expected = facts(program.train(options_for(name, tmp_path / "whole")))
    whole = weights[-1]
    options = options_for(name, tmp_path, name="run", checkpoint_every_steps=2)
    deaths = 0
    while True:
        kill_after(4 + deaths)  # later and later, or nothing would be gained
        try:
            folder = program.train(options)
            break
        except Killed:
            deaths += 1
            options = dataclasses.replace(options, resume=tmp_path / "run")
    assert deaths >= 2
    assert facts(folder) == expected
    assert weights[-1] == whole


def test_a_retrained_run_goes_on(tmp_path, kill_after):
    source = random_tying.train(options_for("random", tmp_path))
    options = retrain.Options(runs_dir=tmp_path / "a", quiet=True, env=ENV, run=source)
    expected = facts(retrain.train(options))
    options = dataclasses.replace(options, runs_dir=tmp_path / "b", checkpoint_every_steps=1)
    kill_after(4)
    with pytest.raises(Killed):
        retrain.train(options)
    kill_after(100)
    (folder,) = (tmp_path / "b").iterdir()
    assert facts(retrain.train(dataclasses.replace(options, resume=folder))) == expected


def small_arguments(**changes):
    values = SMALL | {"max_iters": 60} | changes
    return [f"--env.{name.replace('_', '-')}={value}" for name, value in values.items()]


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(*arguments):
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return Path(out.splitlines()[-1].removeprefix("run folder: "))


def wait_for_rows(folder, count):
    deadline = time.monotonic() + 60
    path = folder / "steps.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline, f"{folder} makes no rows"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_process_that_is_killed_at_random_points_ends_with_the_same_bits(tmp_path):
    # Real processes: each takes seconds to begin.
    arguments = ("agents.dqn", "--quiet", "--checkpoint-every-steps=3", *small_arguments())
    whole = start(*arguments, f"--runs-dir={tmp_path / 'whole'}")
    process = start(*arguments, f"--runs-dir={tmp_path}", "--name=run")
    rng = random.Random(0)
    for rows in (rng.randint(1, 9), rng.randint(10, 19), rng.randint(20, 28)):
        wait_for_rows(tmp_path / "run", rows)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        process = start("agents.dqn", "--resume", tmp_path / "run")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == f"run folder: {tmp_path / 'run'}"
    whole.communicate()
    assert whole.returncode == 0
    (expected,) = (tmp_path / "whole").iterdir()
    assert facts(tmp_path / "run") == facts(expected)


@pytest.mark.slow
def test_a_stop_writes_a_checkpoint_and_says_in_one_line_how_to_go_on(tmp_path):
    # Real processes: each takes seconds to begin.
    arguments = ("baselines.random_tying", "--quiet", *small_arguments(max_iters=40_000))
    processes = {
        number: start(*arguments, f"--runs-dir={tmp_path}", f"--name=run {number}")
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    for number, process in processes.items():
        folder = tmp_path / f"run {number}"
        wait_for_rows(folder, 3)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number
        assert out == ""
        command = python_command("baselines.random_tying", "--resume", folder)
        assert err.splitlines() == [f"stopped; to go on: {command}"]
        rows = len(read_run(folder).steps)
        (checkpoint,) = folder.glob("checkpoint-*.safetensors")
        assert checkpoint.name == f"checkpoint-{rows + 1}.safetensors"  # the reset counts too


def test_a_second_process_is_refused_while_the_first_goes_on(tmp_path):
    options = options_for("random", tmp_path, name="run")
    with open_run(options, "random_tying") as env:
        env.reset(seed=3)
        env.step(0)
        before = (env.folder / "calls.jsonl").read_bytes()
        options = dataclasses.replace(options, resume=env.folder)
        with pytest.raises(BlockingIOError, match="goes on in another process"):
            random_tying.train(options)
        assert (env.folder / "calls.jsonl").read_bytes() == before
    random_tying.train(options)  # it was closed before its end


def test_a_finished_run_stays_as_it_is(tmp_path, capsys):
    folder = random_tying.train(options_for("random", tmp_path))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(AlreadyFinished, match="finished already"):
        random_tying.train(options_for("random", tmp_path, resume=folder))
    random_tying.main(["--resume", str(folder)])
    assert capsys.readouterr().out.splitlines() == [
        f"{folder} is finished already: nothing was done",
        f"run folder: {folder}",
    ]
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert {path.name for path in before} >= {"config.json", "steps.jsonl", "summary.json"}
    assert not {path for path in before if path.name.startswith(("calls", "checkpoint"))}


def killed_run(tmp_path, kill_after, calls=9, **changes):
    options = options_for("random", tmp_path, name="run", checkpoint_every_steps=4, **changes)
    kill_after(calls)
    with pytest.raises(Killed):
        random_tying.train(options)
    kill_after(10**6)
    return dataclasses.replace(options, resume=tmp_path / "run")


def test_checkpoints_come_by_steps_and_by_time_and_the_last_one_stays(tmp_path, kill_after):
    options = killed_run(tmp_path, kill_after, calls=8)
    folder = options.resume
    assert [p.name for p in folder.glob("*checkpoint*")] == ["checkpoint-5.safetensors"]
    _, values = read_tensors(folder / "checkpoint-5.safetensors", "checkpoint")
    assert values["episode"]["iteration"] == 4 * ENV.iters_per_step
    kill_after(8)
    by_time = dataclasses.replace(
        options, resume=None, checkpoint_every_steps=None, checkpoint_every_minutes=1e-9
    )
    with pytest.raises(Killed):
        random_tying.train(by_time)
    assert [p.name for p in (tmp_path / "run-2").glob("checkpoint*")] != []
    never = dataclasses.replace(by_time, checkpoint_every_minutes=None)
    kill_after(8)
    with pytest.raises(Killed):
        random_tying.train(never)
    assert [p.name for p in (tmp_path / "run-3").glob("checkpoint*")] == []


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path, kill_after, monkeypatch):
    options = killed_run(tmp_path, kill_after, calls=8)
    folder = options.resume
    before = (folder / "checkpoint-5.safetensors").read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tiegym.atomic_write.os.replace", full_disk)
        with pytest.raises(OSError, match="No space left"):
            random_tying.train(options)
    assert [p.name for p in folder.glob("*checkpoint*")] == ["checkpoint-5.safetensors"]
    assert (folder / "checkpoint-5.safetensors").read_bytes() == before
    expected = facts(random_tying.train(options_for("random", tmp_path / "whole")))
    assert facts(random_tying.train(options)) == expected


def test_half_written_files_are_put_right(tmp_path, kill_after):
    expected = facts(random_tying.train(options_for("random", tmp_path / "whole")))
    options = killed_run(tmp_path, kill_after, calls=8)
    folder = options.resume
    for name in ("calls.jsonl", "steps.jsonl"):
        with (folder / name).open("ab") as file:
            file.write(b'{"call": "st')
    (folder / ".checkpoint-9.safetensors.abc").write_bytes(b"half")
    (folder / ".config.json.77").write_bytes(b"{")
    folder_facts = facts(random_tying.train(options))
    folder_facts["files"].remove(".config.json.77")
    assert folder_facts == expected


def test_other_options_are_refused_and_named(tmp_path, kill_after):
    options = killed_run(tmp_path, kill_after)
    env = dataclasses.replace(options.env, learning_rate=0.5)
    with pytest.raises(ValueError, match=r"different are env\.learning_rate \(0\.001 then, 0\.5"):
        random_tying.train(dataclasses.replace(options, env=env))
    with pytest.raises(ValueError, match=r"seed \(3 then, 4 now\)"):
        random_tying.train(dataclasses.replace(options, seed=4))
    random_tying.train(dataclasses.replace(options, quiet=False, checkpoint_every_minutes=1.0))


def test_the_command_line_takes_the_recorded_options(tmp_path, kill_after):
    options = killed_run(tmp_path, kill_after, env=dataclasses.replace(ENV, initial_ties=(0,) * 4))
    read = parse_options(random_tying.Options, ["--resume", str(options.resume)])
    assert read == options
    with pytest.raises(ValueError, match=r"-m baselines.random_tying --resume"):
        parse_options(dqn.Options, ["--resume", str(options.resume)])
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        parse_options(dqn.Options, ["--resume", str(tmp_path)])
    config = options.resume / "config.json"
    config.write_text(config.read_text().replace('"total_steps"', '"all_steps"'))
    with pytest.raises(ValueError, match="no options that this version"):
        parse_options(random_tying.Options, ["--resume", str(options.resume)])


def test_a_program_that_acts_differently_is_stopped_and_the_versions_named(
    tmp_path, kill_after, monkeypatch
):
    options = killed_run(tmp_path, kill_after)
    folder = options.resume
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".0"}
    monkeypatch.setattr(random_tying.RandomTying, "predict", lambda *a, **k: (np.int64(1), None))
    with pytest.raises(RuntimeError, match=r"asks for step 1, where it had asked for step.*same"):
        random_tying.train(options)
    config = json.loads((folder / "config.json").read_text())
    config["versions"]["torch"] = "1.0"
    write_json(folder / "config.json", config)
    with pytest.raises(RuntimeError, match=r"Versions differ \(torch 1\.0 then, 2"):
        random_tying.train(options)
    for name in ("checkpoint-5.safetensors", "steps.jsonl"):
        assert (folder / name).read_bytes() == before[name]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("calls.jsonl", b"nonsense\n" * 12),
        ("calls.jsonl", b'{"call": "reset"}\n' * 12),
        ("checkpoint-5.safetensors", b"nonsense"),
        ("steps.jsonl", b"{}\n"),
        ("steps.jsonl", b"{\n" * 12),
        ("config.json", b"{"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, kill_after, name, content):
    options = killed_run(tmp_path, kill_after)
    (options.resume / name).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(name)):
        random_tying.train(options)


def test_answers_come_back_with_their_dtypes_and_all_their_bits():
    rng = np.random.default_rng(0)
    env = gymnasium.make("TieEnv-v0", **SMALL)
    observation, info = env.reset(seed=0)
    floats = rng.integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    answers = [
        (observation, info),
        env.step(1),
        floats[np.isfinite(floats)],
        np.float32(0.1),
        (0.1 + 0.2, 5e-324, True, None, "x", 2**60),
    ]
    for answer in answers:
        again = decode(json.loads(json.dumps(encode(answer))))
        np.testing.assert_equal(again, answer)
        assert repr(again) == repr(answer)


def test_a_line_that_does_not_fit_is_taken_back(tmp_path):
    class Small:
        """A disk with room for 30 bytes."""

        def __init__(self, file):
            self.file = file
            self.fileno = file.fileno

        def write(self, data):
            room = 30 - os.fstat(self.file.fileno()).st_size
            if room <= 0:
                raise OSError(28, "No space left on device")
            return self.file.write(data[:room])

    with json_files.FileIO(tmp_path / "rows.jsonl", "a") as file:
        append_line(Small(file), {"value": 1})
        with pytest.raises(OSError, match="No space left"):
            append_line(Small(file), {"value": "x" * 40})
    assert json_files.read_lines(tmp_path / "rows.jsonl") == [{"value": 1}]
