"""Work that is done on the nodes of a Ray cluster, task after task, whatever dies meanwhile.

A task whose process or node dies is done again on another, a few times; a run of a transformer
then goes on from its folder. What fails by itself is not.
"""

from __future__ import annotations

import fcntl
import pickle
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from tqdm.auto import tqdm

from baselines.ray_cluster import connect
from baselines.ray_nodes import Ticket, check_nodes, enter, room_of
from baselines.ray_options import Resources
from baselines.run_task import Outcome, Task, run_task
from tiegym.runs.input_errors import InputError
from tiegym.runs.messages import complain
from tiegym.runs.processes import RunsFailed

DEATHS = 3
"""Processes in which a task may die before it counts as failed."""

T = TypeVar("T")


class Died(RunsFailed):
    """All processes in which a task was done have died."""


@dataclass(frozen=True)
class _Try(Generic[T]):
    """A task, and in how many processes it has died."""

    task: T
    deaths: int = 0


@dataclass(frozen=True)
class _Refused:
    """A node can't do a task."""

    reason: str


class RayTasks(Generic[T]):
    """Tasks on the nodes of a Ray cluster.

    Args:
        address: See `baselines.ray_cluster.connect`.
        work: A function of a module that is called with each task.
        folder: Where its results go; all nodes must see it.
        modules: Programs that it runs, imported by now.
        resources: That a task takes.
        at_a_time: Tasks; None is as many as there is room for.
        stoppable: Whether a task ends at Ctrl-C, with something to go on from; else it is killed.

    Raises:
        InputError: If there is no such cluster, if a task fits on none of its nodes, or if they
            can't do what tasks need.
    """

    def __init__(
        self,
        address: str,
        work: Callable[[T], Any],
        folder: Path,
        modules: Iterable[str],
        resources: Resources,
        at_a_time: int | None,
        stoppable: bool,
    ) -> None:
        """Connects, and asks all nodes."""
        self._ray = connect(address, at_a_time and at_a_time * resources.cpus)
        self._work, self._at_a_time, self._stoppable = work, at_a_time, stoppable
        self._waiting: deque[_Try[T]] = deque()
        self._running: dict[Any, _Try[T]] = {}
        room = room_of(self._ray, resources)
        self.place = f"{min(sum(room.values()), at_a_time or sys.maxsize)} at a time" + (
            f" on {len(room)} nodes" if len(room) > 1 else ""
        )
        self._ticket = Ticket.write(folder, {_module(work), *modules}, resources.gpus)
        self._mark = self._ticket.mark.open("r+")
        try:
            locks = _try_lock(self._mark.fileno())
            unlocked = check_nodes(self._ray, self._ticket, room)
        except BaseException:
            self._close()
            raise
        if unlocked or not locks:
            hosts = ", ".join(sorted(unlocked)) or "this machine"
            complain(
                f"files in {folder} can't be locked on {hosts}: let only one comparison use them"
            )
        self._task = self._ray.remote(
            num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=0
        )(_do)

    def submit(self, task: T) -> None:
        """Does a task as soon as there is room for it."""
        self._waiting.append(_Try(task))
        self._fill()

    def ended(self, seconds: float) -> list[tuple[T, Any]]:
        """The tasks that have ended with what they returned, or `Died`.

        Args:
            seconds: It waits no longer for the first of them.

        Raises:
            InputError: If a node that has joined meanwhile can't do the tasks.
            Exception: What the work raised.
        """
        if not self._running:
            return []
        ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        results = []
        for ref in ready:
            # First of all: a task that is cancelled just when it ends brings Ray 2.60 down.
            tried = self._running.pop(ref)
            result = self._result(ref, tried)
            if isinstance(result, _Try):
                self._waiting.appendleft(result)
            else:
                results.append((tried.task, result))
        self._fill()
        return results

    def stop(self) -> None:
        """Lets tasks end where they can go on from, and waits for it; a signal kills them."""
        self._waiting.clear()
        try:
            while self._running and self._stoppable:
                for ref in self._running:  # again and again: before its first step a run is deaf
                    self._ray.cancel(ref)
                refs = list(self._running)
                ended, _ = self._ray.wait(refs, num_returns=len(refs), timeout=1.0)
                for ref in ended:
                    del self._running[ref]
        finally:
            for ref in self._running:
                self._ray.cancel(ref, force=True)
            self._running.clear()
            self._close()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < (self._at_a_time or sys.maxsize):
            tried = self._waiting.popleft()
            payload = pickle.dumps((self._work, tried.task))  # read where its modules are found
            self._running[self._task.remote(self._ticket, payload)] = tried

    def _result(self, ref: Any, tried: _Try[T]) -> Any:
        """What a task returned, `Died`, or the task as it is to be tried once more."""
        errors = self._ray.exceptions
        try:
            result = self._ray.get(ref)
        except errors.RayTaskError:  # which is also what the work raised
            raise
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            return self._again(tried, _reason(error))
        except errors.RayError as error:
            raise RunsFailed(
                f"Ray can't go on ({_reason(error)}): the same command goes on where it stopped"
            ) from error
        if isinstance(result, _Refused):
            raise InputError(f"engine: {result.reason}")
        return result

    def _again(self, tried: _Try[T], reason: str) -> _Try[T] | Died:
        deaths = tried.deaths + 1
        if deaths == DEATHS:
            return Died(f"each of {deaths} processes that did it has died; the last: {reason}")
        with tqdm.external_write_mode(sys.stderr):  # bars make room for it
            complain(f"a process has died ({reason}): what it did goes on in another")
        return _Try(tried.task, deaths)

    def _close(self) -> None:
        self._mark.close()
        self._ticket.mark.unlink(missing_ok=True)


class RayWorkers(RayTasks[Task]):
    """Runs of a comparison on the nodes of a Ray cluster.

    Args:
        address: See `RayTasks`.
        folder: See `RayTasks`.
        modules: See `RayTasks`.
        threads: PyTorch's, of each run.
        resources: See `RayTasks`.
        at_a_time: See `RayTasks`.

    Raises:
        InputError: See `RayTasks`.
    """

    def __init__(
        self,
        address: str,
        folder: Path,
        modules: Iterable[str],
        threads: int,
        resources: Resources,
        at_a_time: int | None,
    ) -> None:
        """Connects, and asks all nodes."""
        work = partial(run_task, threads=threads)
        super().__init__(address, work, folder, modules, resources, at_a_time, stoppable=True)

    def ended(self, seconds: float) -> list[tuple[Task, Outcome]]:
        """The runs that have ended; see `RayTasks.ended`."""
        return [
            (task, Outcome("failed", str(result)) if isinstance(result, Died) else result)
            for task, result in super().ended(seconds)
        ]

    def _result(self, ref: Any, tried: _Try[Task]) -> Any:
        result = super()._result(ref, tried)
        if isinstance(result, Outcome) and result.kind == "stopped":  # its node is shut down
            return self._again(tried, "it was asked to end")
        return result


def do_all_on_ray(
    address: str,
    work: Callable[[T], None],
    tasks: Sequence[T],
    folder: Path,
    modules: Iterable[str],
    at_a_time: int | None,
) -> Iterator[T]:
    """Does some work for each task, on one core each, and yields those that are done.

    Args:
        address: See `RayTasks`.
        work: See `RayTasks`; its result is left out.
        tasks: What it is called with.
        folder: See `RayTasks`.
        modules: See `RayTasks`.
        at_a_time: See `RayTasks`.

    Raises:
        InputError: See `RayTasks`.
        RunsFailed: If the processes of a task die again and again.
    """
    if not tasks:
        return
    on_ray = RayTasks(address, work, folder, modules, Resources(), at_a_time, stoppable=False)
    try:
        for task in tasks:
            on_ray.submit(task)
        left = len(tasks)
        while left:
            for task, result in on_ray.ended(60.0):
                if isinstance(result, Died):
                    raise result
                left -= 1
                yield task
    finally:
        on_ray.stop()


def _do(ticket: Ticket, payload: bytes) -> Any:
    """What a process on a node does with a task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is how Ray says stop; a run hears it
    if problem := enter(ticket):
        return _Refused(problem)
    work, task = pickle.loads(payload)
    return work(task)


def _module(work: Callable[..., Any]) -> str:
    return (work.func if isinstance(work, partial) else work).__module__


def _try_lock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _reason(error: Exception) -> str:
    """The first sentence of what Ray says, which may go on for a page."""
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
