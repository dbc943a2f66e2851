"""Work that is done by some processes, task after task; none of them outlives the program.

A task can't be stopped half-way: what a process was at when the program ends is lost. Runs of a
transformer, which end with a checkpoint, have workers of their own (`baselines.workers`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from tiegym.runs.input_errors import InputError, input_errors
from tiegym.runs.messages import complain, say
from tiegym.runs.ranks import refuse_ranks

Task = TypeVar("Task")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""That ask a program for an end: Ctrl-C, kill, and the end of its terminal."""


class RunsFailed(RuntimeError):
    """Some of the work wasn't done; what went wrong was said when it happened, or is said here."""


class StopAsked(KeyboardInterrupt):
    """A signal asks for an end.

    Args:
        number: Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stoppable() -> Iterator[None]:
    """Ends a program that a signal stops with one line and the exit status that shells give it.

    So it is with Ctrl-C, with SIGTERM, and with the end of its terminal.
    """
    received: int = signal.SIGINT

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = number
        raise StopAsked(number)

    unheard = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
    before = {n: signal.signal(n, ask) for n in SIGNALS if n not in unheard}  # nohup ignores it
    try:
        yield
    except KeyboardInterrupt as stopped:
        say("stopped: the same command goes on where it stopped", sys.stderr)
        # Ray raises one of its own in the place of ours.
        sys.exit(128 + getattr(stopped, "number", received))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None is one that C code set


@contextmanager
def long_work() -> Iterator[None]:
    """Ends a program whose work can't be done, fails or is stopped with one line.

    The exit status is 2 for a wrong input, 1 where work failed, and 128 and its number for a
    signal.
    """
    with input_errors(InputError), stoppable():
        try:
            refuse_ranks()
            yield
        except RunsFailed as error:
            complain(f"error: {error}")
            sys.exit(1)


def do_all(work: Callable[[Task], None], tasks: Sequence[Task], workers: int) -> Iterator[Task]:
    """Does some work for each task, and yields the tasks that are done, in any order.

    Args:
        work: A function of a module, if there are several workers.
        tasks: What it is called with.
        workers: Processes; one is this process itself.

    Raises:
        RunsFailed: If a process was killed.
    """
    if workers == 1 or len(tasks) < 2:
        for task in tasks:
            work(task)
            yield task
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(tasks)), context, _begin)
    # Until a process ignores signals it has them blocked: it would end with a traceback.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        futures = {pool.submit(work, task): task for task in tasks}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finished = False
    try:
        for future in as_completed(futures):
            future.result()
            yield futures[future]
        finished = True
    except BrokenProcessPool as error:
        raise RunsFailed(
            "a process was killed from outside, perhaps for want of memory (--workers 1 takes "
            "less): the same command goes on where it stopped"
        ) from error
    finally:
        if not finished:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """Prepares a process: it ends when the program says so or is gone, and by no signal."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
