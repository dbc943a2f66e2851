"""Arms of a comparison: what one is, and running what is missing of it.

An arm is a program with its options ("dqn --learning-rate 1e-4"), a pattern ("cycle:2"), a tie
vector ("0,0,2,2"), or a folder with a finished run. Each seed of it is one run folder.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import importlib
import importlib.util
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiegym import ties as tie_vectors
from tiegym.config import TieConfig
from tiegym.runs.folder import WHERE_AND_HOW
from tiegym.runs.input_errors import InputError
from tiegym.runs.journal import recorded_steps
from tiegym.runs.options import RunOptions, parse_options
from tiegym.runs.progress import Progress
from tiegym.runs.recorder import is_finished

ALIASES = {"random": "baselines.random_tying"}


@dataclass(frozen=True)
class Arm:
    """One policy of a comparison: a program and its options, but for the seed and the folder."""

    label: str
    module: str
    options: RunOptions

    def folder(self, runs_dir: Path, seed: int) -> Path:
        """Where the run of a seed goes: the same configuration, the same folder.

        The label isn't part of it: two ways to write the same options share their runs.
        """
        text = json.dumps([self.module, _identity(self.options)], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        name = f"{self.module.rpartition('.')[2]}-{getattr(self.options, 'pattern', '')}"
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
        return runs_dir / f"{slug}-{digest}-seed{seed}"


def _identity(options: RunOptions) -> dict[str, Any]:
    values = dataclasses.asdict(options)
    return {key: value for key, value in values.items() if key not in {"seed", *WHERE_AND_HOW}}


def parse_arm(text: str, env: TieConfig) -> Arm:
    """Reads an arm.

    Args:
        text: A program of agents/ or baselines/ with options, a pattern, or a tie vector.
        env: The environment of the comparison; the arm's own options override it.

    Raises:
        ValueError: If it is none of these.
    """
    head, *args = shlex.split(text) or [""]
    module = ALIASES.get(head) or _find_program(head)
    if module is None:
        try:
            tie_vectors.parse(head, env.n_layer)
        except ValueError as error:
            raise InputError(
                f"{text!r} is no policy: it is no program of agents/ or baselines/, no run folder "
                f"and no pattern ({error})"
            ) from error
        module, args = "baselines.fixed", ["--pattern", head, *args]
    options = parse_options(importlib.import_module(module).Options, args, env)
    return Arm(text, module, options)


def _find_program(name: str) -> str | None:
    if re.fullmatch(r"[a-z_][a-z0-9_]*", name):
        for package in ("agents", "baselines"):
            path = Path(__file__).parent.parent / package / f"{name}.py"
            if path.is_file() and re.search(r"^class Options\(", path.read_text(), re.MULTILINE):
                return f"{package}.{name}"
    return None


@contextmanager
def stoppable() -> Iterator[None]:
    """Ends a program that Ctrl-C stops with one line and the exit status that shells give it."""
    try:
        yield
    except KeyboardInterrupt:
        print("stopped: the same command goes on where it stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def run_missing(
    arms: Iterable[Arm],
    seeds: Sequence[int],
    runs_dir: Path,
    workers: int | None = None,
    quiet: bool = False,
) -> None:
    """Runs every seed of every arm that has no finished run folder yet.

    A run that was cut off goes on where it stopped; finished ones stay. Each worker process has
    an equal share of the cores.

    Args:
        arms: What to run.
        seeds: Seeds of each.
        runs_dir: Where run folders go.
        workers: Processes at a time; None is one for every core, or one with a GPU.
        quiet: Show no progress.

    Raises:
        RuntimeError: If a run fails; the others that have finished are kept.
    """
    tasks: dict[Path, tuple[Arm, int]] = {}
    for seed in seeds:  # seed by seed: cut off, it leaves something to compare
        for arm in arms:
            folder = arm.folder(runs_dir, seed)
            if not is_finished(folder):
                tasks[folder] = (arm, seed)
    if not tasks:
        return
    for folder in tasks:
        if folder.exists() and not _has_begun(folder):
            shutil.rmtree(folder)
    cores = os.cpu_count() or 1
    if workers is None:
        workers = 1 if _uses_gpu(tasks) else min(cores, len(tasks))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (max(1, cores // workers),))
    try:
        futures = {pool.submit(_run, arm, seed, f): (f, arm) for f, (arm, seed) in tasks.items()}
        _wait(futures, f"{len(tasks)} runs, {workers} at a time", quiet)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _uses_gpu(tasks: dict[Path, tuple[Arm, int]]) -> bool:
    from tiegym.training.resolve import resolve_device

    return any(resolve_device(a.options.env.device).type != "cpu" for a, _ in tasks.values())


def _start_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _run(arm: Arm, seed: int, folder: Path) -> None:
    options = dataclasses.replace(
        arm.options, seed=seed, runs_dir=folder.parent, name=folder.name, quiet=True
    )
    if _has_begun(folder):
        options = dataclasses.replace(options, resume=folder)
    importlib.import_module(arm.module).train(options)
    # The collector counts objects, not bytes: it would let the texts of many runs pile up.
    gc.collect()


def _has_begun(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _wait(futures: dict[Future[None], tuple[Path, Arm]], description: str, quiet: bool) -> None:
    """Shows the iterations of all runs' environment steps until the runs have ended."""

    def done() -> int:
        return sum(
            _iterations(arm, arm.options.all_steps if future.done() else recorded_steps(folder))
            for future, (folder, arm) in futures.items()
        )

    total = sum(_iterations(arm, arm.options.all_steps) for _, arm in futures.values())
    with closing(Progress(total, description, quiet, done())) as progress:
        while True:
            running = [f for f in futures if not f.done()]
            for future, (folder, _) in futures.items():
                if future.done() and not future.cancelled() and (error := future.exception()):
                    for other in running:
                        other.cancel()
                    raise RuntimeError(f"the run {folder} failed: {error}") from error
            # A run that has just ended has no journal any more.
            now = max(progress.done, done())
            progress.update(now, f"{len(futures) - len(running)} of {len(futures)} runs done")
            if not running:
                return
            time.sleep(0.5)


def _iterations(arm: Arm, steps: int) -> int:
    return arm.options.env.iterations(steps)
