"""Running what is missing of a comparison: which runs, how many at a time, and what it shows.

What a policy is, is in `baselines.policies`; the processes are in `baselines.workers`.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

from baselines.kept import Stale, stale_folders
from baselines.policies import ComparedPolicy
from baselines.workers import Outcome, Task, Workers, has_begun
from tiegym.runs.folder import is_finished
from tiegym.runs.input_errors import InputError
from tiegym.runs.journal import recorded_steps
from tiegym.runs.messages import complain, say
from tiegym.runs.processes import RunsFailed, StopAsked
from tiegym.runs.progress import Progress
from tiegym.runs.provenance import device_facts

RETRY_SECONDS = 2.0
"""Between two looks at a run that another process has open."""


@dataclass(frozen=True)
class RunningOptions:
    """How the runs of a comparison are run."""

    runs_dir: Path = Path("runs/compare")
    """Where run folders, tables and pictures go."""
    workers: int | None = None
    """Runs at a time; None is one for every core, or one with a GPU."""
    threads: int | None = None
    """PyTorch's threads of each run, on which its bits depend; None is an equal share of the
    cores, as many as --workers says."""
    stale: Stale = "refuse"
    """What happens to kept runs that would come out otherwise now, since the text, the code,
    PyTorch or its threads have changed: refuse says so and ends, rerun makes them anew, keep takes
    them as they are (never those on another text)."""
    quiet: bool = False
    """Show no progress."""

    def check(self) -> None:
        """Checks what can be checked before anything runs.

        Raises:
            InputError: If a number is out of range, or the folder can't be written.
        """
        for name in ("workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}={value} must be at least 1, or None to choose")
        try:
            self.runs_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.runs_dir):
                pass
        except OSError as error:
            raise InputError(f"runs_dir={str(self.runs_dir)!r} can't be used: {error}") from error


def run_missing(
    policies: Iterable[ComparedPolicy], seeds: Sequence[int], options: RunningOptions
) -> None:
    """Runs every seed of every policy that has no finished run folder yet; see `run_pairs`."""
    policies = list(policies)
    # Seed by seed: cut off, it leaves something to compare.
    run_pairs([(policy, seed) for seed in seeds for policy in policies], options)


def run_pairs(pairs: Sequence[tuple[ComparedPolicy, int]], options: RunningOptions) -> None:
    """Runs a seed of a policy each that has no finished run folder yet.

    A run that was cut off goes on where it stopped; finished ones stay. One that another process
    has open is waited for.

    Args:
        pairs: What to run, in this order.
        options: Where, and how many at a time.

    Raises:
        InputError: If an option is wrong, a run can't be run as asked for, or kept runs are
            refused.
        RunsFailed: If a run fails for another reason; the others have ended by then.
    """
    options.check()
    wanted = {policy.folder(options.runs_dir, seed): (policy, seed) for policy, seed in pairs}
    gpu = _uses_gpu(policy for policy, _ in wanted.values())
    cores = os.cpu_count() or 1
    workers = options.workers or (1 if gpu else cores)
    threads = options.threads or max(1, cores // workers)
    kept = [(policy, folder) for folder, (policy, _) in wanted.items() if has_begun(folder)]
    anew = stale_folders(kept, None if gpu else threads, options.stale)
    tasks = [
        Task(policy, seed, folder, folder in anew)
        for folder, (policy, seed) in wanted.items()
        if folder in anew or not _is_finished(folder)
    ]
    if tasks:
        pool = Workers(min(workers, len(tasks)), threads)
        _run_all(pool, tasks, f"{len(tasks)} runs, {min(workers, len(tasks))} at a time", options)


def _uses_gpu(policies: Iterable[ComparedPolicy]) -> bool:
    try:
        names = {device_facts(name)["device"] for name in {p.options.env.device for p in policies}}
    except ValueError as error:
        raise InputError(str(error)) from error
    return names - {"cpu"} != set()


def _is_finished(folder: Path) -> bool:
    try:
        return is_finished(folder)
    except ValueError as error:
        raise InputError(f"{error}; remove {folder} to run it again") from error


def _run_all(
    pool: Workers, tasks: Sequence[Task], description: str, options: RunningOptions
) -> None:
    failed: list[Task] = []
    try:
        _wait(pool, tasks, failed, description, options.quiet)
    except InputError as error:
        raise InputError(f"{error} (the runs beside it were stopped; they can go on)") from error
    except KeyboardInterrupt:
        say(
            "stopping: runs end at their next step, with a checkpoint; a second Ctrl-C ends them "
            "at once",
            sys.stderr,
        )
        raise
    finally:
        pool.stop()
    if failed:
        names = ", ".join(task.folder.name for task in failed)
        raise RunsFailed(f"{len(failed)} of {len(tasks)} runs failed: {names}")


def _wait(
    pool: Workers, tasks: Sequence[Task], failed: list[Task], description: str, quiet: bool
) -> None:
    """Shows the iterations of all runs' environment steps until the runs have ended."""
    running: dict[Future[Outcome], Task] = {pool.submit(task): task for task in tasks}
    elsewhere: dict[Path, tuple[float, Task]] = {}
    ended: set[Path] = set()

    def done() -> int:
        return sum(
            _iterations(task, _steps(task) if task.folder in ended else recorded_steps(task.folder))
            for task in tasks
        )

    total = sum(_iterations(task, _steps(task)) for task in tasks)
    with closing(Progress(total, description, quiet, min(total, done()))) as progress:
        while running or elsewhere:
            for future in wait(running, 0.5, FIRST_COMPLETED).done:
                task = running.pop(future)
                outcome = _outcome(future)
                if outcome.kind == "open elsewhere":
                    if task.folder not in elsewhere:
                        _say(f"{task.folder} is open in another process: waiting for its end")
                    elsewhere[task.folder] = time.monotonic() + RETRY_SECONDS, task
                    continue
                ended.add(task.folder)
                elsewhere.pop(task.folder, None)
                if outcome.kind == "wrong input":
                    raise InputError(f"{task.folder.name}: {outcome.message}")
                if outcome.kind == "failed":
                    _say(f"the run {task.folder} failed: {outcome.message}; the others go on")
                    failed.append(task)
                if outcome.kind == "stopped":
                    raise StopAsked(signal.SIGTERM)  # somebody stopped this run alone
            again = [t for at, t in elsewhere.values() if at <= time.monotonic()]
            for task in again:
                if task not in running.values():
                    running[pool.submit(task)] = task
            if not running:
                time.sleep(0.5)
            # A run that has just ended has no journal any more.
            now = max(progress.done, min(total, done()))
            progress.update(now, f"{len(ended)} of {len(tasks)} runs done")


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RunsFailed(
            "a process of the comparison was killed from outside, perhaps for want of memory "
            "(--workers 1 takes less): the same command goes on where it stopped"
        ) from error


def _say(text: str) -> None:
    with tqdm.external_write_mode(sys.stderr):  # bars make room for it
        complain(text)


def _steps(task: Task) -> int:
    return task.policy.options.all_steps


def _iterations(task: Task, steps: int) -> int:
    return task.policy.options.env.iterations(steps)
