"""Worker processes of a comparison: they run one run after the other, and outlive nobody.

A pipe whose other end the comparison holds tells them when to stop: it is closed when the
comparison has had enough, and by the system when the comparison is gone, however it ended. A run
that is going on then ends at its next step, as after SIGTERM, with a checkpoint.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection

from baselines.run_task import Outcome, Task, run_task
from tiegym.runs.processes import SIGNALS, RunsFailed


class Workers:
    """Some processes that run tasks.

    Args:
        count: Processes.
        threads: PyTorch's threads in each.
    """

    def __init__(self, count: int, threads: int) -> None:
        """Makes the pool; processes start with the first tasks."""
        self.place = f"{count} at a time"
        context = multiprocessing.get_context("spawn")
        reader, self._writer = context.Pipe(duplex=False)
        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(count, context, _start, (threads, reader))
        self._running: dict[Future[Outcome], Task] = {}

    def submit(self, task: Task) -> None:
        """Runs a task as soon as there is a process for it."""
        # A process that has just begun would die of Ctrl-C with a traceback. It inherits what is
        # blocked here, and ignores what came meanwhile.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._running[self._pool.submit(_run, task)] = task
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def ended(self, seconds: float) -> list[tuple[Task, Outcome]]:
        """The runs that have ended, waiting for the first of them no longer than some seconds.

        Raises:
            RunsFailed: If a process was killed.
        """
        done = wait(self._running, seconds, FIRST_COMPLETED).done
        try:
            return [(self._running.pop(future), future.result()) for future in done]
        except BrokenProcessPool as error:
            raise RunsFailed(
                "a process of the comparison was killed from outside, perhaps for want of memory "
                "(--workers 1 takes less): the same command goes on where it stopped"
            ) from error

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
        return Outcome("stopped") if _stop.poll() else run_task(task, _threads)
