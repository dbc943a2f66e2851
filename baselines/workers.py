"""Worker processes of a comparison: they run one run after the other, and outlive nobody.

A pipe whose other end the comparison holds tells them when to stop: it is closed when the
comparison has had enough, and by the system when the comparison is gone, however it ended. A run
that is going on then ends at its next step, as after SIGTERM, with a checkpoint.
"""

from __future__ import annotations

import dataclasses
import fcntl
import gc
import multiprocessing
import os
import shutil
import signal
import threading
import traceback
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

from baselines.policies import ComparedPolicy
from tiegym.runs.folder import is_finished
from tiegym.runs.input_errors import InputError
from tiegym.runs.journal import CALLS
from tiegym.runs.processes import SIGNALS
from tiegym.training.out_of_memory import OutOfMemory


@dataclass(frozen=True)
class Task:
    """One run: a policy, its seed, and where it goes."""

    policy: ComparedPolicy
    seed: int
    folder: Path
    anew: bool = False
    """Whether what is there is removed first."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended; what went wrong is a text, since not every error can be sent."""

    kind: Literal["done", "stopped", "open elsewhere", "wrong input", "failed"]
    message: str = ""


class Workers:
    """Some processes that run tasks.

    Args:
        count: Processes.
        threads: PyTorch's threads in each.
    """

    def __init__(self, count: int, threads: int) -> None:
        """Makes the pool; processes start with the first tasks."""
        context = multiprocessing.get_context("spawn")
        reader, self._writer = context.Pipe(duplex=False)
        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(count, context, _start, (threads, reader))

    def submit(self, task: Task) -> Future[Outcome]:
        """Runs a task as soon as there is a process for it."""
        # A process that has just begun would die of Ctrl-C with a traceback. It inherits what is
        # blocked here, and ignores what came meanwhile.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            return self._pool.submit(_run, task)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self) -> None:
        """Lets runs end at their next step, and waits for it; a signal meanwhile kills them."""
        self._writer.close()
        try:
            self._pool.shutdown(wait=True, cancel_futures=True)
        except KeyboardInterrupt:
            for process in set(multiprocessing.active_children()) - self._others:
                process.kill()
            raise


_stop: Connection
_threads: int
_running = threading.Lock()


def _start(threads: int, stop: Connection) -> None:
    """Prepares a process: it ends when the comparison says so or is gone, and by no signal."""
    global _stop, _threads
    for number in SIGNALS:  # while a run goes on, it has handlers of its own for these
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    _stop, _threads = stop, threads
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    _stop.poll(None)  # until the other end is closed
    # A run ends at its next step. Before its first one, and between runs, signals are ignored.
    while not _running.acquire(timeout=0.5):
        os.kill(os.getpid(), signal.SIGTERM)
    _running.release()
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(0)  # nobody is left to say that there is nothing more to do


def _run(task: Task) -> Outcome:
    with _running:
        if _stop.poll():
            return Outcome("stopped")
        try:
            with _claimed(task.folder):
                _train(task)
        except KeyboardInterrupt:
            return Outcome("stopped")
        except BlockingIOError:
            return Outcome("open elsewhere")
        except InputError as error:
            return Outcome("wrong input", str(error))
        except OutOfMemory as error:
            return Outcome("failed", str(error))
        except Exception as error:
            path = _log(task.folder)
            path.write_text(traceback.format_exc())
            text = f"{type(error).__name__}: {error} (the traceback is in {path})"
            return Outcome("failed", text)
        finally:
            # The collector counts objects, not bytes: the texts of many runs would pile up.
            gc.collect()
        return Outcome("done")


def _train(task: Task) -> None:
    """Runs what is missing of a run, which no other process can begin meanwhile."""
    import torch

    torch.set_num_threads(_threads)  # a run that was resumed before had those that it began with
    folder = task.folder
    if not task.anew and is_finished(folder):  # by another comparison, since this one looked
        return
    options = dataclasses.replace(
        task.policy.options, seed=task.seed, runs_dir=folder.parent, name=folder.name, quiet=True
    )
    _check_not_open(folder)
    if has_begun(folder) and not task.anew:
        options = dataclasses.replace(options, resume=folder)
    elif folder.exists():
        shutil.rmtree(folder)
    task.policy.train(options)
    _log(folder).unlink(missing_ok=True)


def has_begun(folder: Path) -> bool:
    """Whether a folder holds a run that can be resumed."""
    return (folder / "config.json").is_file()


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.error.txt")


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Keeps a run folder, which need not be there yet, from other comparisons.

    Raises:
        BlockingIOError: If one of them has it.
    """
    path = folder.parent / ".locks" / folder.name
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("w")
        try:
            _lock(file.fileno())
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
        with (folder / CALLS).open("rb") as file:
            _lock(file.fileno())
    except FileNotFoundError:
        return


def _lock(number: int) -> None:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:  # some network file systems have no locks
        warnings.warn(
            f"run folders can't be locked here ({error}): let only one comparison use them",
            stacklevel=2,
        )
