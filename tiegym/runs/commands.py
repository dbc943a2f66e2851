"""Command lines: how programs read theirs, and such as run where they are printed."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from tiegym.runs.messages import reader_may_leave

T = TypeVar("T")


def read_command_line(
    options: Callable[..., T],
    module: str,
    description: str | None = None,
    args: Sequence[str] | None = None,
    **more: Any,
) -> T:
    """What a program's command line says; its help names commands that run where it is read.

    Args:
        options: A dataclass that is made of it, or a function that is called with it.
        module: The program's full name, such as "baselines.compare".
        description: What its help begins with; None is what `options` says of itself.
        args: The command line; None takes the process's own.
        **more: For `tyro.cli`.

    Raises:
        SystemExit: With 2 if it can't be read; with 0 after help.
    """
    if description is not None:
        more["description"] = runnable(description)
    with reader_may_leave():
        read: T = tyro.cli(options, args=args, prog=python_command(module), **more)
        return read


def python_command(module: str, *arguments: str | Path) -> str:
    """The command line that runs a module with the Python that runs now.

    Its Python is the one that the user started, seen from the working directory:
    `.venv/bin/python` in a checkout, `python` where that is what the shell finds, else its path.

    Args:
        module: Its full name, such as "agents.dqn".
        *arguments: Of its command line; quoted where a shell needs it.

    Examples:
        >>> command = python_command("agents.dqn", "--name", "my run")
        >>> command.partition(" -m ")[2]
        "agents.dqn --name 'my run'"
    """
    return shlex.join([_python(), "-m", module, *map(str, arguments)])


def runnable(text: str) -> str:
    """A program's description whose command lines run where it is read: `python_command`'s Python.

    Args:
        text: With command lines that begin with "python -m".
    """
    return text.replace("python -m ", f"{shlex.quote(_python())} -m ")


def _python() -> str:
    here = Path(sys.executable)  # not resolved: that of an environment is a link to another
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found is not None and Path(found) == here:
            return name
    try:
        return str(here.relative_to(Path.cwd()))
    except ValueError:
        return str(here)
