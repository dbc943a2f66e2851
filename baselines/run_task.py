"""What a worker of a comparison does: one run, from where it stands to its end.

Where workers are, processes of this machine or of a cluster, is in `baselines.workers` and
`baselines.ray_workers`.
"""

from __future__ import annotations

import dataclasses
import fcntl
import gc
import os
import shutil
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from baselines.policies import ComparedPolicy
from tiegym.atomic_write import write_bytes
from tiegym.runs.folder import is_finished
from tiegym.runs.input_errors import InputError
from tiegym.runs.journal import CALLS
from tiegym.runs.regular_files import open_to_write
from tiegym.training.out_of_memory import OutOfMemory


@dataclass(frozen=True)
class Task:
    """One run: a policy, its seed, and where it goes."""

    policy: ComparedPolicy
    seed: int
    folder: Path
    stale: bytes | None = None
    """The `config.json` of a run that would come out otherwise now: that run is removed first, and
    no other, so that a task which is begun a second time goes on with what it has."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended; what went wrong is a text, since not every error can be sent."""

    kind: Literal["done", "stopped", "open elsewhere", "wrong input", "failed"]
    message: str = ""


def run_task(task: Task, threads: int) -> Outcome:
    """Runs what is missing of a run.

    Args:
        task: The run.
        threads: PyTorch's, unless the run has begun with others.
    """
    try:
        with claimed(task.folder):
            _train(task, threads)
    except KeyboardInterrupt:
        return Outcome("stopped")
    except BlockingIOError:
        return Outcome("open elsewhere")
    except InputError as error:
        return Outcome("wrong input", str(error))
    except OutOfMemory as error:
        return Outcome("failed", str(error))
    except Exception as error:
        return Outcome("failed", f"{type(error).__name__}: {error} ({_logged(task.folder)})")
    finally:
        # The collector counts objects, not bytes: the texts of many runs would pile up.
        gc.collect()
    return Outcome("done")


def _train(task: Task, threads: int) -> None:
    """Runs what is missing of a run, which no other process can begin meanwhile."""
    import torch

    torch.set_num_threads(threads)  # a run that was resumed before had those that it began with
    folder = task.folder
    anew = task.stale is not None and task.stale == read_record(folder)
    if not anew and is_finished(folder):  # by another comparison, since this one looked
        return
    options = dataclasses.replace(
        task.policy.options, seed=task.seed, runs_dir=folder.parent, name=folder.name, quiet=True
    )
    _check_not_open(folder)
    if has_begun(folder) and not anew:
        options = dataclasses.replace(options, resume=folder)
    elif folder.exists():
        shutil.rmtree(folder)
    task.policy.train(options)
    _log(folder).unlink(missing_ok=True)


def has_begun(folder: Path) -> bool:
    """Whether a folder holds a run that can be resumed."""
    return (folder / "config.json").is_file()


def read_record(folder: Path) -> bytes | None:
    """The `config.json` of a run as it is; None if there is none."""
    return (folder / "config.json").read_bytes() if has_begun(folder) else None


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.error.txt")


def _logged(folder: Path) -> str:
    """Writes down the error that is being handled; says where, or that there is no room even so."""
    path, text = _log(folder), traceback.format_exc()
    try:
        write_bytes(path, text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        return f"its traceback can't be written: {error}"
    return f"the traceback is in {path}"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keeps a run folder, which need not be there yet, from other comparisons.

    Raises:
        BlockingIOError: If one of them has it.
        InputError: If its lock is, or is behind, a link: a runs folder may be somebody else's.
    """
    path = folder.parent / ".locks" / folder.name
    if path.parent.is_symlink():
        raise InputError(f"{path.parent} is a link: remove it, or give another --runs-dir")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = open_to_write(path)
        try:
            lock(file.fileno())
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        except BaseException:
            file.close()
            raise
        file.close()  # its last owner has just removed it: it locks nothing
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _check_not_open(folder: Path) -> None:
    """Raises BlockingIOError if a program that isn't a comparison's has the run open."""
    try:
        with (folder / CALLS).open("r+b") as file:  # NFS locks what can be written
            lock(file.fileno())
    except FileNotFoundError:
        return


def lock(number: int) -> None:
    """Locks an open file.

    Args:
        number: Its descriptor.

    Raises:
        BlockingIOError: If somebody else has locked it.
    """
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # some network file systems have no locks
        warnings.warn(
            f"run folders can't be locked here ({error}): let only one comparison use them",
            stacklevel=2,
        )
