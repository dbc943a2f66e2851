"""What a run costs besides its training: files, messages, and the scheduler's time.

    python -m benchmarks.many_runs runs/dqn-seed0

Of run folders that are given it prints files and bytes. Then it starts a Ray on this machine and
lets it do tasks that do nothing, as `baselines.compare --engine ray` lets it do runs.
"""

from __future__ import annotations

import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from baselines.policies import parse_policy
from baselines.ray_nodes import Ticket
from baselines.ray_options import Resources
from baselines.ray_workers import RayTasks
from baselines.run_task import Task
from tiegym.config import TieConfig
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import at_least, input_errors
from tiegym.runs.journal import recorded_steps
from tiegym.runs.messages import say


@dataclass(frozen=True)
class Options:
    """Measure what many runs cost besides their training."""

    folders: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders; one that was cut off has its checkpoint and its journal."""
    tasks: int = 200
    """Tasks that do nothing; 0 starts no Ray."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 0, "tasks")


def files(folder: Path) -> str:
    """The files of a run folder and their bytes, the largest first."""
    sizes = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    largest = sorted(sizes, key=lambda name: -sizes[name])
    listed = ", ".join(f"{name} {sizes[name]:,}" for name in largest)
    return f"{folder}: {len(sizes)} files, {sum(sizes.values()):,} bytes ({listed})"


def messages() -> str:
    """The bytes of what is sent for a run."""
    policy = parse_policy("dqn", TieConfig())
    task = Task(policy, 0, policy.folder(Path("runs/compare"), 0))
    with tempfile.TemporaryDirectory() as folder:
        ticket = Ticket.write(Path(folder), {policy.module, "baselines.run_task"}, 0.0)
    sent = len(pickle.dumps(ticket)), len(pickle.dumps(task))
    return (
        f"a run is sent as {sum(sent):,} bytes: {sent[0]:,} of its program, {sent[1]:,} of its own"
    )


def look(folder: Path, times: int = 20) -> str:
    """How long one look at the progress of a run takes."""
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        steps = recorded_steps(folder)
        seconds.append(time.perf_counter() - begin)
    return f"a look at {steps} recorded steps takes {1e3 * statistics.median(seconds):.2f} ms"


def scheduling(tasks: int) -> str:
    """How long tasks take that do nothing."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        on_ray: RayTasks[int] = RayTasks(
            "local", abs, Path(folder), (), Resources(), None, stoppable=False
        )
        started = time.perf_counter()
        for task in range(tasks):
            on_ray.submit(task)
        left = tasks
        while left:
            left -= len(on_ray.ended(60.0))
        ended = time.perf_counter()
        on_ray.stop()
    return (
        f"Ray: {started - begin:.1f} s until its processes have imported PyTorch, then "
        f"{1e3 * (ended - started) / tasks:.1f} ms a task, {on_ray.place}"
    )


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    options = read_command_line(Options, "benchmarks.many_runs", __doc__, args=args)
    with input_errors():
        for folder in options.folders:
            say(files(folder), sys.stdout)
            if recorded_steps(folder):
                say(look(folder), sys.stdout)
        say(messages(), sys.stdout)
        if options.tasks:
            say(scheduling(options.tasks), sys.stdout)


if __name__ == "__main__":
    main()
