"""Power cuts, kills and full disks: what is left behind, and what becomes of it."""

import contextlib
import dataclasses
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import gymnasium
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tiegym
from agents import ppo
from baselines import random_tying
from tests.runs import facts
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs import begin, program, regular_files, run_files
from tiegym.runs.begin import AlreadyFinished
from tiegym.runs.folder import read_run
from tiegym.runs.input_errors import InputError
from tiegym.runs.json_files import whole_lines, write_json
from tiegym.runs.program import open_run
from tiegym.runs.progress import Progress
from tiegym.runs.recorder import RecordRun

ENV = TieConfig(**SMALL)
ARGUMENTS = [f"--env.{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


def options_for(folder, **changes):
    return random_tying.Options(runs_dir=folder, name="run", quiet=True, env=ENV, **changes)


def take_steps(options, steps):
    """A run that is cut off after so many steps; the policy is that of the program."""
    with contextlib.suppress(ZeroDivisionError), open_run(options, "random_tying") as env:
        policy = random_tying.RandomTying(env.action_space, options.env.n_layer, options.seed)
        observation, _ = env.reset(seed=options.seed)
        for _ in range(steps):
            observation, *_ = env.step(policy.predict(observation)[0])
        raise ZeroDivisionError
    return dataclasses.replace(options, resume=options.runs_dir / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return random_tying.train(options_for(tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("half", [b'{"episode": 0, "st', b"x"])
def test_half_a_first_row_does_not_grow_together_with_the_next(tmp_path, whole, half):
    options = take_steps(options_for(tmp_path), 0)
    (options.resume / "steps.jsonl").write_bytes(half)
    assert facts(random_tying.train(options)) == facts(whole)


@pytest.mark.parametrize("kept", range(1, 6))
def test_whatever_the_disk_kept_beyond_the_checkpoint_the_run_goes_on(tmp_path, whole, kept):
    options = take_steps(options_for(tmp_path, checkpoint_every_steps=2), 5)
    (checkpoint,) = options.resume.glob("checkpoint-*")
    counted = int(checkpoint.stem.removeprefix("checkpoint-"))
    for name, needed in (("calls.jsonl", counted), ("steps.jsonl", counted - 1)):
        path = options.resume / name
        lines = path.read_bytes().splitlines(keepends=True)
        # What was never flushed is missing, or zeros.
        rest = b"\0" * 50 + b"\n" if kept % 2 else b""
        path.write_bytes(b"".join(lines[: max(kept, needed)]) + rest)
    assert facts(random_tying.train(options)) == facts(whole)


def test_rows_and_answers_are_on_the_disk_before_what_counts_on_them(tmp_path, monkeypatch):
    """Every fsync and rename, in their order, with how long the flushed file was."""
    done, fsync, replace = [], os.fsync, os.replace

    def flushed(number):
        path = os.readlink(f"/proc/self/fd/{number}")
        done.append((os.path.basename(path), os.fstat(number).st_size))
        fsync(number)

    def renamed(old, new):
        done.append((f"-> {os.path.basename(new)}", None))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    options = ppo.Options(
        runs_dir=tmp_path, name="run", quiet=True, env=ENV, n_steps=4, checkpoint_every_steps=2
    )
    folder = ppo.train(options)
    names = [name for name, _ in done]
    checkpoints = [k for k, name in enumerate(names) if name.startswith("-> checkpoint-")]
    assert checkpoints
    for k in checkpoints:
        before = names[:k]
        assert "calls.jsonl" in before
        assert "steps.jsonl" in before
        assert max(i for i, n in enumerate(before) if n == "steps.jsonl") >= k - 4
    last = max(k for k, name in enumerate(names) if name == "-> summary.json")
    assert ("steps.jsonl", (folder / "steps.jsonl").stat().st_size) in done[:last]
    for name in ("agent.zip", "agent.safetensors"):
        temporary = [k for k, n in enumerate(names) if n.startswith(f".{name}.")]
        assert temporary[0] < names.index(f"-> {name}") < last


def test_temporary_files_of_a_killed_process_are_removed(tmp_path, whole):
    options = take_steps(options_for(tmp_path, checkpoint_every_steps=2), 3)
    for name in ("checkpoint-9.safetensors", "summary.json", "agent.zip", "model.safetensors"):
        (options.resume / f".{name}.0a1b2c3d.tmp").write_bytes(b"half")
    assert facts(random_tying.train(options)) == facts(whole)


def test_what_a_kill_after_the_end_leaves_is_removed_at_the_next_touch(tmp_path, whole):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "calls.jsonl").write_text("{}\n")
    (folder / "checkpoint-5.safetensors").write_bytes(b"whole")
    (folder / ".summary.json.0a1b2c3d.tmp").write_bytes(b"half")
    with pytest.raises(AlreadyFinished):
        random_tying.train(options_for(tmp_path, resume=folder))
    assert facts(folder) == facts(whole)


def test_a_flipped_digit_anywhere_in_a_finished_run_is_noticed(tmp_path, whole):
    folder = shutil.copytree(whole, tmp_path / "run")
    for name in ("summary.json", "steps.jsonl"):
        text = (whole / name).read_text()
        places = [match.start() for match in re.finditer(r"\d", text)]
        for place in places[:: max(1, len(places) // 60)]:
            digit = str((int(text[place]) + 1) % 10)
            changed = text[:place] + digit + text[place + 1 :]
            if name == "summary.json" and json.loads(changed) == json.loads(text):
                continue  # the 17th digit of a number that is the same float with another one
            (folder / name).write_text(changed)
            with pytest.raises(InputError, match="damaged"):
                read_run(folder)
        (folder / name).write_text(text)
    read_run(folder)


def test_a_run_of_the_first_version_is_read_and_still_held_against_its_rows(tmp_path, whole):
    folder = shutil.copytree(whole, tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    del summary["sha256"]
    write_json(folder / "summary.json", summary)
    with pytest.raises(InputError, match="damaged: it has no sha256"):
        read_run(folder)
    config = json.loads((folder / "config.json").read_text())
    del config["checksums"]  # which 0.1 doesn't write
    write_json(folder / "config.json", config)
    assert read_run(folder).summary == read_run(whole).summary == summary
    summary["final"]["perplexity"] += 1
    write_json(folder / "summary.json", summary)
    with pytest.raises(InputError, match="ends with perplexity"):
        read_run(folder)


def test_rows_that_a_finished_run_lost_are_missed(tmp_path, whole):
    folder = shutil.copytree(whole, tmp_path / "run")
    lines = whole_lines(folder / "steps.jsonl")
    (folder / "steps.jsonl").write_bytes(b"".join(line + b"\n" for line in lines[:-1]))
    with pytest.raises(InputError, match=r"has 5 rows, but summary\.json is about 6"):
        read_run(folder)


class ShortEpisodes(gymnasium.Env):
    """Episodes of one step, as fast as they can be."""

    action_space = observation_space = gymnasium.spaces.Discrete(2)

    def __init__(self):
        self.config = TieConfig(**SMALL)
        self.task = SimpleNamespace(sha256="c0ffee")
        self.step_stats, self.weights_sha256 = {}, None

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 0, 0.0, True, False, {"iteration": 4, "perplexity": 9.0}


def test_the_cost_of_recording_grows_with_the_episodes_and_not_with_their_square(
    tmp_path, monkeypatch
):
    written = []
    monkeypatch.setattr(run_files, "write_json", lambda path, value: written.append(value["steps"]))
    monkeypatch.setattr(run_files, "time", SimpleNamespace(monotonic=lambda: clock()))
    now = [0.0]

    def clock():  # a summary takes as long as it has episodes, and so does a thousandth of a step
        now[0] += 0.5 * (len(written) + 1)
        return now[0]

    env = RecordRun(ShortEpisodes(), tmp_path / "run", {})
    monkeypatch.setattr(run_files.RunFiles, "show", lambda *a: None)
    for _ in range(2000):
        env.reset()
        env.step(0)
    assert written[:64] == list(range(1, 65))
    assert len(written) < 300
    env.close()
    assert written[-1] == 2000


def test_rows_are_not_read_again_for_the_images(tmp_path, monkeypatch):
    def read(*_):
        raise AssertionError("the rows were read")

    env = tiegym.RecordRun(gymnasium.make("TieEnv-v0", **SMALL), tmp_path / "run", {})
    monkeypatch.setattr(regular_files, "open_to_read", read)
    monkeypatch.setattr("tiegym.runs.json_files.open_to_read", read)
    monkeypatch.setattr("tiegym.runs.tensorboard_log.begin", lambda *a: None)
    env.reset(seed=0)
    while not env.step(1)[2]:
        pass
    env.close()
    monkeypatch.undo()
    assert images(tmp_path / "run")


def images(folder):
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {
        (tag, event.step): (event.encoded_image_string, event.wall_time)
        for tag in events.Tags()["images"]
        for event in events.Images(tag)
    }


def test_a_resumed_run_keeps_the_images_it_had(tmp_path):
    options = take_steps(options_for(tmp_path, total_steps=18, checkpoint_every_steps=7), 6)
    assert not list(options.resume.glob("checkpoint*"))
    with contextlib.suppress(ZeroDivisionError), open_run(options, "random_tying") as env:
        policy = random_tying.RandomTying(env.action_space, options.env.n_layer, options.seed)
        observation, _ = env.reset(seed=options.seed)
        for _ in range(11):
            observation, _, done, _, _ = env.step(policy.predict(observation)[0])
            if done:
                observation, _ = env.reset()
        raise ZeroDivisionError
    before = images(options.resume)
    assert {step for _, step in before} == {12}
    assert list(options.resume.glob("checkpoint*"))
    folder = random_tying.train(options)
    after = images(folder)
    assert {step for _, step in after} == {12, 24, 36}
    assert before.items() <= after.items()
    assert len(list(folder.glob("events*"))) == 1


def test_a_second_ctrl_c_ends_at_once_and_without_a_traceback(tmp_path, monkeypatch, capsys):
    def twice(options):
        with open_run(options, "random_tying") as env:
            env.reset(seed=0)
            os.kill(os.getpid(), signal.SIGINT)
            while env._journal.signals.received is None:
                time.sleep(0.001)  # two that come before the first is seen are one
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
            raise AssertionError("it goes on")

    # A shell's background jobs, of which the tests may be one, begin with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit, match="130"):
            program.run_program(
                random_tying.Options, twice, ["--quiet", f"--runs-dir={tmp_path}", *ARGUMENTS]
            )
    finally:
        signal.signal(signal.SIGINT, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stopped at once")


WITHOUT_READERS = """
import os, sys
import torch._dynamo, tiegym.pictures.tie_film  # which a run needs, read once for all three
from baselines import random_tying

def closed():
    os.close(2)
    sys.stderr = sys.__stderr__ = None  # as it is in a process that begins without

def left():
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1), os.dup2(write, 2)

def full():
    nowhere = os.open("/dev/full", os.O_WRONLY)
    os.dup2(nowhere, 1), os.dup2(nowhere, 2)

started = {}
for begin in (closed, left, full):
    number = os.fork()
    if number == 0:
        begin()
        sys.exit(random_tying.main([*sys.argv[1:], f"--name={begin.__name__}"]))
    started[number] = begin.__name__
for number, name in started.items():
    print(name, os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
"""


@pytest.mark.slow
def test_a_program_without_stderr_or_with_readers_that_leave_runs_to_its_end(tmp_path):
    # Real processes, which end as Python ends: what it can't write then is an exit status, too.
    command = [sys.executable, "-c", WITHOUT_READERS, *ARGUMENTS, f"--runs-dir={tmp_path}"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=200, check=True)
    ends = [line for line in done.stdout.splitlines() if not line.startswith("run folder")]
    assert ends == ["closed 0", "left 0", "full 0"]
    for name in ("closed", "left", "full"):
        assert read_run(tmp_path / name).summary["finished"]


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ENOSPC])
def test_progress_goes_on_without_its_reader(monkeypatch, number):
    class Gone(io.TextIOBase):
        encoding = "utf-8"

        def isatty(self):
            return False

        def write(self, text):
            raise OSError(number, "gone")

    monkeypatch.setattr(sys, "stderr", Gone())
    progress = Progress(10, "work")
    for done in range(1, 11):
        progress.update(done)
    assert progress.done == 10
    monkeypatch.setattr(sys, "stderr", None)
    Progress(10, "work").update(10)


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.EIO, errno.ENOSPC])
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys, error):
    arguments = ["--quiet", f"--runs-dir={tmp_path / 'runs'}", *ARGUMENTS]

    def fails(path, value):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(begin, "write_json", fails)
    status = "1" if error == errno.ENOSPC else "2"
    with pytest.raises(SystemExit, match=status):
        random_tying.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert os.strerror(error) in line
    assert list((tmp_path / "runs").iterdir()) == []  # and no empty folder stays


def test_runs_dirs_that_cannot_be_are_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "else")
    for where in ("file", "file/below", "link", "x" * 300):
        with pytest.raises(SystemExit, match="2"):
            random_tying.main(["--quiet", f"--runs-dir={tmp_path / where}", *ARGUMENTS])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")


def test_refused_resumes_are_one_line_and_status_2(tmp_path, capsys):
    options = options_for(tmp_path)
    with open_run(options, "random_tying") as env:
        env.reset(seed=0)
        env.step(1)
        for arguments, message in (
            ([], "goes on in another process"),
            (["--seed=9"], r"seed \(0 then, 9 now\)"),
            (["--env.n-layer=5"], r"env.n_layer \(4 then, 5 now\)"),
        ):
            with pytest.raises(SystemExit, match="2"):
                random_tying.main(["--resume", str(env.folder), *arguments])
            (line,) = capsys.readouterr().err.splitlines()
            assert re.match(f"error: .*{message}", line)


@pytest.mark.parametrize("checkpoint_every_steps", [None, 2])
def test_another_text_is_refused_and_both_are_named(tmp_path, monkeypatch, checkpoint_every_steps):
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        text = "".join(f"{place} {k} jumps over it.\n" for k in range(2000))
        (tmp_path / place / "text.txt").write_text(text)
    monkeypatch.chdir(tmp_path / "here")
    env = dataclasses.replace(ENV, corpus="text.txt")
    options = options_for(tmp_path, checkpoint_every_steps=checkpoint_every_steps)
    options = take_steps(dataclasses.replace(options, env=env), 4)
    began_with = json.loads((options.resume / "config.json").read_text())["corpus_sha256"]
    monkeypatch.chdir(tmp_path / "there")
    kept = ("steps.jsonl", "config.json", *(p.name for p in options.resume.glob("checkpoint*")))
    before = [(options.resume / name).read_bytes() for name in kept]
    with pytest.raises(InputError, match=rf"'text\.txt'.*sha256 [0-9a-f]+, and had {began_with}"):
        random_tying.train(options)
    assert [(options.resume / name).read_bytes() for name in kept] == before
    monkeypatch.chdir(tmp_path / "here")
    assert read_run(random_tying.train(options)).summary["finished"]


def test_names_that_are_not_utf_8_are_written_and_shown(tmp_path, capsys):
    name = os.fsdecode(b"M\xfcller")
    folder = tmp_path / name
    folder.mkdir()
    for k in range(4):
        (folder / f"{k}.txt").write_text(f"file {k} jumps over it.\n" * 500)
    arguments = ["--quiet", f"--runs-dir={tmp_path / name}2", *ARGUMENTS, f"--env.corpus={folder}"]
    with pytest.warns(UserWarning, match="TensorBoard takes no names"):
        random_tying.main(arguments)
    (run,) = (tmp_path / f"{name}2").iterdir()
    assert read_run(run).config["env"]["corpus"] == str(folder)
    assert "ller2" in capsys.readouterr().out
