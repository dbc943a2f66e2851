"""Running what is missing of a comparison: which runs, how many at a time, and what it shows.

What a policy is, is in `baselines.policies`; where runs are run, processes of this machine or a
Ray cluster, is in `baselines.workers` and `baselines.ray_workers`.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from tqdm.auto import tqdm

from baselines.kept import stale_folders
from baselines.policies import ComparedPolicy
from baselines.ray_options import address_of
from baselines.run_task import Outcome, Task, has_begun, read_record
from baselines.running_options import RunningOptions, Share, share_of
from baselines.workers import Workers
from tiegym.runs.folder import is_finished
from tiegym.runs.input_errors import InputError
from tiegym.runs.journal import recorded_steps
from tiegym.runs.live import SAMPLE
from tiegym.runs.messages import complain, say
from tiegym.runs.processes import RunsFailed, StopAsked
from tiegym.runs.progress import Progress
from tiegym.transformer.model_file import MODEL_FILE

RETRY_SECONDS = 2.0
"""Between two looks at a run that another process has open."""
PAUSE = 20
"""How many times as long as a look at all journals takes, the next one waits: hundreds of them are
megabytes, and may be on another machine."""


class Engine(Protocol):
    """Where runs are run."""

    place: str
    """How many there are at a time, or where."""

    def submit(self, task: Task) -> None:
        """Runs a task as soon as there is room for it."""
        ...

    def ended(self, seconds: float) -> list[tuple[Task, Outcome]]:
        """The runs that have ended, waiting for the first of them no longer than some seconds."""
        ...

    def stop(self) -> None:
        """Lets runs end at their next step, and waits for it; a signal meanwhile kills them."""
        ...


def run_missing(
    policies: Iterable[ComparedPolicy], seeds: Sequence[int], options: RunningOptions
) -> None:
    """Runs every seed of every policy that has no finished run folder yet; see `run_pairs`."""
    run_pairs(pairs_of(policies, seeds), options)


def pairs_of(
    policies: Iterable[ComparedPolicy], seeds: Sequence[int]
) -> list[tuple[ComparedPolicy, int]]:
    """Every seed of every policy, seed by seed: cut off, it leaves something to compare."""
    policies = list(policies)
    return [(policy, seed) for seed in seeds for policy in policies]


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
    tasks = missing_tasks(pairs, options)
    if tasks:
        share = share_of((policy for policy, _ in pairs), options)
        pool = _start(tasks, share, options)
        _run_all(pool, tasks, f"{len(tasks)} runs, {pool.place}", options)


def missing_tasks(
    pairs: Sequence[tuple[ComparedPolicy, int]], options: RunningOptions
) -> list[Task]:
    """What `run_pairs` runs.

    Args:
        pairs: See `run_pairs`.
        options: See `run_pairs`.

    Raises:
        InputError: As `run_pairs`.
    """
    options.check()
    wanted = {policy.folder(options.runs_dir, seed): (policy, seed) for policy, seed in pairs}
    share = share_of((policy for policy, _ in pairs), options)
    kept = [(policy, folder) for folder, (policy, _) in wanted.items() if has_begun(folder)]
    anew = stale_folders(kept, None if share.gpu else share.threads, options.stale)
    anew |= {folder for policy, folder in kept if _is_finished(folder) and _lacks(policy, folder)}
    return [
        Task(policy, seed, folder, read_record(folder) if folder in anew else None)
        for folder, (policy, seed) in wanted.items()
        if folder in anew or not _is_finished(folder)
    ]


def _start(tasks: Sequence[Task], share: Share, options: RunningOptions) -> Engine:
    address = address_of(options.engine)
    if address is None:
        assert share.workers is not None
        return Workers(min(share.workers, len(tasks)), share.threads)
    assert share.resources is not None
    from baselines.ray_workers import RayWorkers

    modules = {task.policy.module for task in tasks}
    return RayWorkers(
        address, options.runs_dir, modules, share.threads, share.resources, share.workers
    )


def _is_finished(folder: Path) -> bool:
    try:
        return is_finished(folder)
    except (OSError, ValueError) as error:
        raise InputError(f"{error}; remove {folder} to run it again") from error


def _lacks(policy: ComparedPolicy, folder: Path) -> bool:
    """Whether a finished run has left less than its policy asks for now."""
    options = policy.options
    asked = {MODEL_FILE: options.export, SAMPLE: options.sample_tokens > 0}
    needed = [*policy.needed, *(name for name, wanted in asked.items() if wanted)]
    return not all((folder / name).exists() for name in needed)


def _run_all(
    pool: Engine, tasks: Sequence[Task], description: str, options: RunningOptions
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
    pool: Engine, tasks: Sequence[Task], failed: list[Task], description: str, quiet: bool
) -> None:
    """Shows the iterations of all runs' environment steps until the runs have ended."""
    running = {task.folder: task for task in tasks}
    for task in tasks:
        pool.submit(task)
    elsewhere: dict[Path, tuple[float, Task]] = {}
    ended: set[Path] = set()
    look_again = 0.0

    def done() -> int:
        return sum(
            _iterations(task, _steps(task) if task.folder in ended else recorded_steps(task.folder))
            for task in tasks
        )

    total = sum(_iterations(task, _steps(task)) for task in tasks)
    with closing(Progress(total, description, quiet, min(total, done()))) as progress:
        while running or elsewhere:
            for task, outcome in pool.ended(0.5):
                del running[task.folder]
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
                if task.folder not in running:
                    running[task.folder] = task
                    pool.submit(task)
            if not running:
                time.sleep(0.5)
            begin = time.monotonic()
            if begin < look_again and (running or elsewhere):
                continue
            # A run that has just ended has no journal any more.
            now = max(progress.done, min(total, done()))
            progress.update(now, f"{len(ended)} of {len(tasks)} runs done")
            look_again = begin + PAUSE * (time.monotonic() - begin)


def _say(text: str) -> None:
    with tqdm.external_write_mode(sys.stderr):  # bars make room for it
        complain(text)


def _steps(task: Task) -> int:
    return task.policy.options.all_steps


def _iterations(task: Task, steps: int) -> int:
    return task.policy.options.env.iterations(steps)
