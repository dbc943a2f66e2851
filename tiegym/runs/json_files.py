"""JSON that any program can read: plain values, finite numbers, files that are whole or not there.

Files of JSON lines only grow, and each of their lines is whole or not there.

What the values mean is up to `tiegym.runs.recorder`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from tiegym.atomic_write import write_bytes


def plain(value: Any) -> Any:
    """A value as JSON knows it: arrays and tuples as lists, dataclasses as dicts, paths as text.

    Raises:
        TypeError: If it is, or holds, anything else.

    Examples:
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


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, with dots in the names; other values as they are.

    Examples:
        >>> flat({"seed": 0, "env": {"n_layer": 6}})
        {'seed': 0, 'env.n_layer': 6}
    """
    result: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result


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


def append_line(file: FileIO, value: Any) -> None:
    """Appends a plain value as one line, whole or not at all.

    Args:
        file: Opened to append, unbuffered: what is written survives the process.
        value: As `dumps` takes it.

    Raises:
        ValueError: If a number in it isn't finite.
        OSError: If the line can't be written; the file is then as it was before.
    """
    line = f"{dumps(value)}\n".encode()
    size = os.fstat(file.fileno()).st_size
    try:
        while line:  # a disk that runs full takes a part of it, and only then complains
            line = line[file.write(line) :]
    except OSError:
        os.ftruncate(file.fileno(), size)
        raise


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The values of a file of JSON lines; what follows the last line end is half a line.

    Raises:
        ValueError: If a line is damaged, naming it.
    """
    values = []
    for number, line in enumerate(whole_lines(path), start=1):
        try:
            values.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is damaged: {error}") from error
    return values


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file, without their ends; none if there is no such file."""
    if not path.exists():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    return lines


def keep_lines(path: Path, count: int) -> None:
    """Cuts off what follows the first `count` lines of a file, if there is one.

    Raises:
        ValueError: If it has fewer lines.
    """
    if count == 0 and not path.exists():
        return
    lines = whole_lines(path)
    if len(lines) < count:
        raise ValueError(f"{path} is damaged: it has {len(lines)} lines, and must have {count}")
    os.truncate(path, sum(len(line) + 1 for line in lines[:count]))
