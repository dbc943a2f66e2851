"""What the nodes of a Ray cluster must be able to do before a program's runs are run on them.

A run goes on from its folder on whatever node, and must come out as it would here. So every node
must see the folder and have the same code in the same versions. All nodes are asked before the
first run, and each process looks before its first task, for nodes that join later.
"""

from __future__ import annotations

import fcntl
import functools
import importlib
import os
import secrets
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from baselines.ray_options import Resources
from tiegym.runs.input_errors import InputError
from tiegym.runs.provenance import versions
from tiegym.runs.source_code import source_files

ANSWER_SECONDS = 180.0
"""Within which a node must say whether it can do the work; the first time it imports PyTorch."""


@dataclass(frozen=True)
class Ticket:
    """What a process on a node must know and be to do tasks of a program.

    Attributes:
        cwd: The program's working directory.
        path: Where it finds modules.
        mark: A file that it has written into the folder of the runs.
        token: What is in it.
        modules: Programs that are run.
        facts: Of the program's process; see `facts`.
        gpus: That a task has.
    """

    cwd: Path
    path: tuple[str, ...]
    mark: Path
    token: str
    modules: tuple[str, ...]
    facts: dict[str, str | None]
    gpus: float

    @classmethod
    def write(cls, folder: Path, modules: Iterable[str], gpus: float) -> Ticket:
        """Writes the file and collects the rest.

        Args:
            folder: Of the runs.
            modules: Programs that are run, imported by now.
            gpus: That a task has.
        """
        token = secrets.token_hex(8)
        mark = folder.resolve() / f".ray-{token}"
        mark.write_text(token)
        names = tuple(sorted(modules))
        path = tuple(dict.fromkeys(str(Path(entry).resolve()) for entry in sys.path))
        return cls(Path.cwd(), path, mark, token, names, facts(names), gpus)


@functools.cache
def facts(modules: tuple[str, ...]) -> dict[str, str | None]:
    """Versions and hashes of source files in this process, on which the bits of runs depend.

    Args:
        modules: Programs, imported by now.
    """
    found: dict[str, str | None] = dict(versions())
    for module in modules:
        found |= source_files(module)
    return found


def enter(ticket: Ticket) -> str | None:
    """Makes this process one that can do tasks of a program.

    Returns:
        Why it can't, or None.
    """
    host = socket.gethostname()
    try:
        os.chdir(ticket.cwd)
    except OSError as error:
        return f"node {host} doesn't see the working directory {ticket.cwd}: {error.strerror}"
    try:
        seen = ticket.mark.read_text() == ticket.token
    except OSError:
        seen = False
    if not seen:
        return (
            f"node {host} doesn't see the folder of the runs, {ticket.mark.parent}: choose one on "
            "storage that all nodes mount at the same path"
        )
    sys.path += [entry for entry in ticket.path if entry not in sys.path]
    if not ticket.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # newer versions of Ray leave it as it is
    try:
        for module in ticket.modules:
            importlib.import_module(module)
    except Exception as error:
        return f"node {host} can't import {module}: {type(error).__name__}: {error}"
    return _difference(host, facts(ticket.modules), ticket.facts)


def _difference(host: str, there: dict[str, str | None], here: dict[str, str | None]) -> str | None:
    different = [name for name in {**here, **there} if there.get(name) != here.get(name)]
    if not different:
        return None
    files = [name for name in different if name.endswith(".py")]
    packages = [f"{n} {there[n]}, not {here[n]}" for n in different if n not in files]
    named = [*packages, *([f"another {', '.join(files[:5])}"] if files else ())]
    more = f" and {len(files) - 5} more files" if len(files) > 5 else ""
    return (
        f"node {host} would make other runs than this one: it has {'; '.join(named)}{more}. Give "
        "all nodes the same versions and the same code"
    )


@dataclass(frozen=True)
class Answer:
    """What a node says of itself.

    Attributes:
        host: Its name.
        problem: Why it can't do the tasks, or None.
        wrote: A file that it has written into the folder of the runs.
        locks: Whether it sees that a file is locked that the program has locked.
    """

    host: str
    problem: str | None
    wrote: Path | None = None
    locks: bool = True


def look(ticket: Ticket) -> Answer:
    """Tries on a node what tasks need there."""
    host = socket.gethostname()
    if problem := enter(ticket):
        return Answer(host, problem)
    wrote = ticket.mark.with_name(f"{ticket.mark.name}-{secrets.token_hex(8)}")
    try:
        wrote.touch(exist_ok=False)
    except OSError as error:
        return Answer(host, f"node {host} can't write into {wrote.parent}: {error.strerror}")
    try:
        with ticket.mark.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return Answer(host, None, wrote, locks=False)
    except BlockingIOError:
        return Answer(host, None, wrote)
    except OSError:  # there are no locks
        return Answer(host, None, wrote, locks=False)


def room_of(ray: ModuleType, resources: Resources) -> dict[str, int]:
    """How many tasks fit at a time on each node that has room for one, by its id.

    Args:
        ray: As `baselines.ray_cluster.connect` returned it.
        resources: That a task takes.

    Raises:
        InputError: If no node has room for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    ids = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    room = dict(zip(ids, map(resources.fit_into, nodes), strict=True))
    if not any(room.values()):
        largest = ", ".join(f"{node.get('CPU', 0):g} and {node.get('GPU', 0):g}" for node in nodes)
        raise InputError(
            f"a run that takes {resources} fits on no node of the cluster (their cores and GPUs: "
            f"{largest}): give fewer by --cpus-per-run, --threads or --gpus-per-run"
        )
    return {node: count for node, count in room.items() if count}


def check_nodes(ray: ModuleType, ticket: Ticket, nodes: Iterable[str]) -> set[str]:
    """Asks nodes whether they can do the tasks.

    Args:
        ray: As `baselines.ray_cluster.connect` returned it.
        ticket: Of this program, which has locked its mark.
        nodes: Their ids.

    Returns:
        The hosts on which files aren't locked that are locked here.

    Raises:
        InputError: If one of them can't do the tasks, or doesn't answer.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            ticket
        )
        for node in nodes
    ]
    try:
        answers: list[Answer] = ray.get(asked, timeout=ANSWER_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise InputError(
            f"engine: not all nodes have answered within {ANSWER_SECONDS:g} seconds; `ray status` "
            "says what is wrong with the cluster"
        ) from error
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1:]
        raise InputError(
            f"engine: a node can't run this program's code: {''.join(last)}"
        ) from error
    problems = [answer.problem for answer in answers if answer.problem]
    for answer in answers:
        if answer.wrote is not None:
            try:
                answer.wrote.unlink()
            except FileNotFoundError:
                problems.append(
                    f"what node {answer.host} writes into {answer.wrote.parent} isn't there on "
                    "this machine: choose a folder on storage that all nodes mount"
                )
    if problems:
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise InputError(f"engine: {problems[0]}{more}")
    return {answer.host for answer in answers if not answer.locks}
