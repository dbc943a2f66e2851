"""The journal of a run: everything that its program was answered, and how a run goes on from it.

An agent is a deterministic function of its seed and of what it saw, and cheap beside the
transformer. So nothing of it is ever stored. `calls.jsonl` in the run folder gets each answer of
the environment, and `checkpoint-N.safetensors` holds the environment as it was after N answers. A
resumed program runs from its beginning, gets the first N answers from the file, and learns from
them what it had learnt; then the checkpoint takes over. What is asked and answered, and when a
checkpoint is due, is in `tiegym.runs.replay`.
"""

from __future__ import annotations

import fcntl
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Protocol

from tiegym.atomic_write import sync_folder
from tiegym.runs import provenance
from tiegym.runs.commands import python_command
from tiegym.runs.input_errors import DamagedFile, InputError
from tiegym.runs.json_files import (
    append_line,
    keep_lines,
    loads,
    plain,
    read_json,
    whole_lines,
)
from tiegym.runs.ranks import launcher
from tiegym.runs.regular_files import check_folder, open_to_read, open_to_write
from tiegym.runs.signals import Stopped, StopSignals

CALLS = "calls.jsonl"
PIECE = 2**16
"""Bytes that are read at a time where lines are only counted."""
VALUE = "value"
"""The call that isn't the environment's: something that a program computed; see `value`."""


class RunInUse(BlockingIOError, InputError):
    """Another process has a run open."""


class OtherCourse(RuntimeError, InputError):
    """A program that should go on with a run does something else than it did."""


class Checkpointed(Protocol):
    """What a checkpoint is made of: a TieEnv, or many that train together."""

    def save_checkpoint(self, path: Path) -> None:
        """Writes the episode as it stands to one file."""
        ...

    def load_checkpoint(self, path: Path) -> None:
        """Goes on from such a file; a ValueError says why it can't."""
        ...


class Journal:
    """What a run's program was answered so far; one process at a time has it open.

    Args:
        folder: The run folder.
        resume: Whether to go on with the run that is there; else there must be none.
        module: Of the program, which `python -m` runs; to say how to go on.

    Raises:
        RunInUse: If another process has it open.
        DamagedFile: If a file is damaged, a link, or no ordinary file.
        OSError: If the folder can't be written.
    """

    def __init__(self, folder: Path, resume: bool = False, module: str | None = None) -> None:
        self.folder = folder
        self.resumed = resume
        self.count = 0
        """Answers given so far, recorded ones and new ones."""
        self.checkpoint: Path | None = None
        """What the environment is to be restored from once all recorded answers are given."""
        self._module = module
        check_folder(folder)
        self._file = open_to_write(folder / CALLS)
        try:
            _lock(self._file, folder)
            self._recorded = self._read() if resume else []
        except BaseException:
            self._file.close()
            raise
        self.signals = StopSignals()

    def _read(self) -> list[bytes]:
        """The answers that the run can go on from; the others are cut off."""
        _remove_half_written(self.folder)
        lines = whole_lines(self.folder / CALLS)
        count = 0
        for path in self.folder.glob("checkpoint-*.safetensors"):
            number = _number(path)
            if count <= number <= len(lines):
                count, self.checkpoint = number, path
        # Beyond it, what the program itself computed is worth keeping: it changes no environment.
        while count < len(lines) and self._is_value(lines[count]):
            count += 1
        keep_lines(self.folder / CALLS, count)
        return lines[:count]

    def _is_value(self, line: bytes) -> bool:
        try:
            return bool(self._parse(line, 0)["call"] == VALUE)
        except DamagedFile:  # never flushed to the disk, which a power cut has shown
            return False

    @property
    def replaying(self) -> bool:
        """Whether the next answer is a recorded one."""
        return self.count < len(self._recorded)

    def replay(self, call: str, asked: Any) -> Any:
        """The recorded answer to the next call, which must be the one that was recorded.

        Raises:
            OtherCourse: If it isn't.
        """
        entry = self._parse(self._recorded[self.count], self.count)
        if (entry["call"], entry["asked"]) != (call, asked):
            raise OtherCourse(
                f"{self.folder} can't be resumed here: at call {self.count + 1} the program asks "
                f"for {call} {asked}, where it had asked for {entry['call']} {entry['asked']}. "
                f"{self._differences()}"
            )
        self.count += 1
        return entry["answer"]

    def append(self, call: str, asked: Any, answer: Any) -> None:
        """Records the answer to a call; both as JSON has them."""
        append_line(self._file, {"call": call, "asked": asked, "answer": answer})
        self.count += 1

    @contextmanager
    def reading(self, what: str) -> Iterator[None]:
        """Around what takes the last recorded answer apart: it is damaged where that fails.

        Args:
            what: It should be.

        Raises:
            DamagedFile: If so.
        """
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise DamagedFile(
                f"{self.folder / CALLS}, line {self.count}, is damaged: it holds no {what} "
                f"({error!r:.200})"
            ) from error

    def value(
        self, compute: Callable[[], Any], check: Callable[[Any], object] = lambda value: None
    ) -> Any:
        """What a function returns: at the first time computed and recorded, then the record.

        For what a program finds out by itself, at a price, such as the cost of a candidate. While
        a run is being replayed there may be nothing yet to find it out from.

        Args:
            compute: Returns numbers, text, or lists and dicts of these.
            check: Is given a recorded value, which anybody may have written, and fails at one that
                can't be.

        Raises:
            Stopped: If a signal has asked for an end; see `stop`.
            DamagedFile: If `check` fails.
        """
        if self.replaying:
            value = self.replay(VALUE, None)
            with self.reading("value of this program"):
                check(value)
            return value
        self.stop()
        answer = plain(compute())
        self.append(VALUE, None, answer)
        return answer

    def save(self, env: Checkpointed) -> None:
        """Writes a checkpoint of the environment as it is now, then removes the last one.

        What it counts on reaches the disk before it does: the answers, and the rows of their steps.
        """
        os.fsync(self._file.fileno())
        rows = self.folder / "steps.jsonl"
        if rows.exists():
            with open_to_read(rows) as file:
                os.fsync(file.fileno())
        sync_folder(self.folder)
        path = self.folder / f"checkpoint-{self.count}.safetensors"
        env.save_checkpoint(path)
        for other in self.folder.glob("checkpoint-*.safetensors"):
            if other != path:
                other.unlink()

    def stop(self) -> None:
        """Ends the program if a signal has asked for it.

        Raises:
            Stopped: If so.
        """
        if self.signals.received is not None:
            how = f"with --resume {self.folder}"
            if self._module is not None:
                how = python_command(self._module, "--resume", self.folder)
                if started := launcher():
                    how = f"{started} -m {how.partition(' -m ')[2]}"
            raise Stopped(f"stopped; to go on: {how}", self.signals.received)

    def remove(self) -> None:
        """Removes what only an unfinished run needs."""
        _remove_journal(self.folder)

    def close(self) -> None:
        """Lets other processes have it; signals do what they did before."""
        self._file.close()
        self.signals.close()

    def _parse(self, line: bytes, index: int) -> dict[str, Any]:
        try:
            entry = loads(line)
            if isinstance(entry, dict) and entry.keys() == {"call", "asked", "answer"}:
                return entry
            problem = "it is no call"
        except ValueError as error:
            problem = str(error)
        raise DamagedFile(f"{self.folder / CALLS}, line {index + 1}, is damaged: {problem}")

    def _differences(self) -> str:
        """What could be the reason that a program asks for something else."""
        then = read_json(self.folder / "config.json").get("versions", {})
        if different := provenance.different_versions(then):
            return f"Versions differ ({different}): use those of the run, or start anew"
        return (
            "Versions are the same, so the program or the machine differs, or something draws "
            "from a generator that the program didn't seed: start anew"
        )


def remove_leftovers(folder: Path) -> None:
    """Removes what a process that was killed left in the folder of a finished run.

    Nothing happens while another process has it open.

    Raises:
        DamagedFile: If something in the folder is a link, or no ordinary file.
        OSError: If something is left and can't be removed.
    """
    if not any((*folder.glob("checkpoint-*"), *folder.glob(CALLS), *folder.glob(".*.tmp"))):
        return
    check_folder(folder)
    with open_to_write(folder / CALLS) as file:
        try:
            _lock(file, folder)
        except RunInUse:
            return
        _remove_half_written(folder)
        _remove_journal(folder)


def _remove_half_written(folder: Path) -> None:
    """Removes the temporary files of `tiegym.atomic_write` that a killed process left."""
    for pattern in (".*.tmp", ".checkpoint-*"):
        for path in folder.glob(pattern):
            path.unlink()


def _remove_journal(folder: Path) -> None:
    # The answers last: without them, a checkpoint would be taken for that of another run.
    for path in folder.glob("checkpoint-*.safetensors"):
        path.unlink()
    (folder / CALLS).unlink()
    sync_folder(folder)


def recorded_steps(folder: Path) -> int:
    """Environment steps that a run has recorded so far; it may be going on. 0 once it has ended."""
    try:
        file = open_to_read(folder / CALLS)
    except FileNotFoundError:
        return 0
    count, begins = 0, True
    with file:
        while piece := file.readline(PIECE):  # of a line, which may have no end
            count += begins and piece.startswith(b'{"call": "step"')
            begins = piece.endswith(b"\n")
    return count


def _number(path: Path) -> int:
    digits = path.stem.removeprefix("checkpoint-")
    return int(digits) if digits.isdecimal() else -1


def _lock(file: FileIO, folder: Path) -> None:
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunInUse(
            f"{folder} belongs to a run that goes on in another process: wait until it ends, or "
            "stop it, then resume it"
        ) from error
    except OSError as error:  # some network file systems have no locks
        warnings.warn(
            f"{folder} can't be locked ({error}): see yourself that only one process uses it",
            stacklevel=2,
        )
