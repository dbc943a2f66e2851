"""JSON that any program can read: plain values, finite numbers, files that are whole or not there.

What the values mean is up to `tiegym.records`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A value as JSON knows it: arrays and tuples as lists, dataclasses as dicts, paths as text.

    Raises:
        TypeError: If it is, or holds, anything else.

    Example:
        >>> plain({"ties": np.array([0, 0, 2]), "runs_dir": Path("runs"), "rate": np.float32(0.5)})
        {'ties': [0, 0, 2], 'runs_dir': 'runs', 'rate': 0.5}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    raise TypeError(
        f"{value!r} can't be recorded: give numbers, text, paths, arrays, or lists, dicts and "
        "dataclasses of these"
    )


def finite(value: Any) -> Any:
    """A plain value in which None stands for each number that isn't finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """A plain value as text.

    Raises:
        ValueError: If a number in it isn't finite: other languages' readers know no NaN.
    """
    return json.dumps(value, allow_nan=False, ensure_ascii=False, indent=indent)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
        ValueError: If it doesn't, naming the file.
    """
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object")
    return value


def write_json(path: str | Path, value: Any) -> None:
    """Writes a value (anything that `plain` takes) as indented JSON, atomically.

    Raises:
        TypeError: If JSON can't hold it.
        ValueError: If a number in it isn't finite.
    """
    write_bytes(path, f"{dumps(plain(value), indent=2)}\n".encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file beside its destination, then renames it: readers see the old or the new."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
