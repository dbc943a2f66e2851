"""Work that is done by some processes, task after task; none of them outlives the program.

A task can't be stopped half-way: what a process was at when the program ends is lost. Runs of a
transformer, which end with a checkpoint, have workers of their own (`baselines.workers`).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from baselines.running import RunsFailed
from baselines.workers import SIGNALS

Task = TypeVar("Task")


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
