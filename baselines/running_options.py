"""How the runs of a comparison are run: where, how many at a time, and what each of them has."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from baselines.kept import Stale
from baselines.policies import ComparedPolicy
from baselines.ray_options import Resources, address_of
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.provenance import device_facts


@dataclass(frozen=True)
class RunningOptions:
    """How the runs of a comparison are run."""

    runs_dir: Path = Path("runs/compare")
    """Where run folders, tables and pictures go."""
    engine: str = "processes"
    """Where runs are run: processes of this machine; ray, which starts a Ray on it; or ray:ADDRESS,
    a Ray cluster by its HOST:PORT, or ray:auto, that of this machine."""
    workers: int | None = None
    """Runs at a time; None is one for every core, or one with a GPU, and with Ray as many as there
    is room for."""
    threads: int | None = None
    """PyTorch's threads of each run, on which its bits depend; None is an equal share of the
    cores, as many as --workers says, and with Ray --cpus-per-run."""
    cpus_per_run: int | None = None
    """With Ray: cores that a run takes; None is as many as --threads, or 1."""
    gpus_per_run: float | None = None
    """With Ray: GPUs that a run takes, such as 0.5; None is 1 if runs would use a GPU on this
    machine, else 0, and then they don't see one."""
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
        self._check_engine()
        try:
            self.runs_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.runs_dir):
                pass
        except OSError as error:
            raise InputError(f"runs_dir={str(self.runs_dir)!r} can't be used: {error}") from error

    def _check_engine(self) -> None:
        with_ray = address_of(self.engine) is not None
        for name in ("cpus_per_run", "gpus_per_run"):
            value = getattr(self, name)
            if value is not None and not with_ray:
                raise InputError(
                    f"{name}={value} is for --engine ray; processes of this machine share it by "
                    "--workers and --threads"
                )
        Resources(1 if self.cpus_per_run is None else self.cpus_per_run, self.gpus_per_run or 0)


@dataclass(frozen=True)
class Share:
    """What each run has of a machine.

    Attributes:
        workers: Runs at a time; None is as many as there is room for.
        threads: PyTorch's, of each.
        gpu: Whether it has a GPU, and its bits depend on no number of threads.
        resources: With Ray, what a run takes of a node.
    """

    workers: int | None
    threads: int
    gpu: bool
    resources: Resources | None = None


def share_of(policies: Iterable[ComparedPolicy], options: RunningOptions) -> Share:
    """How many runs there are at a time, and what each of them has.

    Raises:
        InputError: If this machine lacks a device that is asked for.
    """
    with_ray = address_of(options.engine) is not None
    if with_ray and options.gpus_per_run is not None:
        gpu = options.gpus_per_run > 0
    else:
        gpu = _uses_gpu(policies)
    if with_ray:
        threads = options.threads or options.cpus_per_run or 1
        gpus = float(gpu) if options.gpus_per_run is None else options.gpus_per_run
        return Share(
            options.workers, threads, gpu, Resources(options.cpus_per_run or threads, gpus)
        )
    cores = os.cpu_count() or 1
    workers = options.workers or (1 if gpu else cores)
    return Share(workers, options.threads or max(1, cores // workers), gpu)


def _uses_gpu(policies: Iterable[ComparedPolicy]) -> bool:
    with as_input_errors(ValueError):
        names = {device_facts(name)["device"] for name in {p.options.env.device for p in policies}}
    return names - {"cpu"} != set()
