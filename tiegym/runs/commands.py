"""Command lines that are printed for the user to run: they run where they are printed."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


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


def runnable(text: str | None) -> str:
    """A program's description whose command lines run where it is read: `python_command`'s Python.

    Args:
        text: With command lines that begin with "python -m"; None is empty.
    """
    return (text or "").replace("python -m ", f"{shlex.quote(_python())} -m ")


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
