"""Which code a run was made by: a hash of the source that decides what it does."""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path
from types import ModuleType

_ROOMS = ("data", "transformer", "training", "runs", "policies")
"""Rooms of tiegym that decide a run, besides its own shelf; pictures, reports, analyses don't."""

_FOLLOWED = ("tiegym.bench.", "tiegym.offline.")
"""Modules that decide those runs alone whose programs have something of them."""


@functools.cache
def source_sha256(module: str) -> str:
    """The hash of a program's source: its own, what it imports of its kind, and tiegym's.

    Args:
        module: Name of the program's module, such as "agents.dqn"; it must be imported.
    """
    digest = hashlib.sha256()
    for path in [*sorted(_package_files()), *sorted(_program_files(module))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def source_files(module: str) -> dict[str, str]:
    """The hash of each file that `source_sha256` is made of, by the file's folder and name.

    Args:
        module: See `source_sha256`.

    Examples:
        >>> len(source_files("tiegym.runs.source_code")["tiegym/env.py"])
        64
    """
    return {
        f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*_package_files(), *_program_files(module)]
    }


def _package_files() -> list[Path]:
    root = Path(__file__).parents[1]
    shelf = [path for path in root.glob("*.py") if path.name != "cli.py"]
    return shelf + [path for room in _ROOMS for path in (root / room).rglob("*.py")]


def _program_files(name: str) -> set[Path]:
    """The program's module, what it has of its kind, of tables and data sets, and they in turn."""
    packages = {"agents", "baselines", name.partition(".")[0]} - {"tiegym"}
    found: set[Path] = set()
    left = [name]
    while left:
        module = sys.modules.get(left.pop())
        file = getattr(module, "__file__", None)
        if module is None or file is None or Path(file) in found:
            continue
        found.add(Path(file))
        for value in list(vars(module).values()):
            origin = value.__name__ if isinstance(value, ModuleType) else _origin(value)
            if origin.partition(".")[0] in packages or origin.startswith(_FOLLOWED):
                left.append(origin)
    return found


def _origin(value: object) -> str:
    origin = getattr(value, "__module__", None)
    return origin if isinstance(origin, str) else ""
