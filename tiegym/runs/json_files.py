"""JSON that any program can read: plain values, finite numbers, files that are whole or not there.

Files of JSON lines only grow, and each of their lines is whole or not there.

What the values mean is up to `tiegym.runs.recorder`.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from tiegym.atomic_write import write_bytes
from tiegym.runs.input_errors import DamagedFile
from tiegym.runs.regular_files import open_to_read, open_to_write

MAX_BYTES = 2**28
"""Of a JSON document, or of one line: far more than a run writes, far less than memory holds."""

MAX_DEPTH = 64
"""Of lists and dicts in each other: far more than a run writes."""


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
    """A plain value as text that UTF-8 can hold.

    Raises:
        ValueError: If a number in it isn't finite: other languages' readers know no NaN.
    """
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:  # the name of a file, in another encoding
        return json.dumps(value, allow_nan=False, indent=indent)
    return text


def loads(text: bytes) -> Any:
    """The value of a JSON text that anybody may have written; None stands for NaN and infinity.

    Raises:
        ValueError: If it is no JSON, or nested deeper than `MAX_DEPTH`.
    """
    try:
        value = json.loads(text, parse_constant=lambda name: None)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _is_deep(value):
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"lists and objects are nested deeper than {MAX_DEPTH}"


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        nested = [v for v in level if isinstance(v, list | dict)]
        if not nested:
            return False
        level = [e for v in nested for e in (v.values() if isinstance(v, dict) else v)]
    return any(isinstance(v, list | dict) for v in level)


def read_json(path: Path) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises:
        DamagedFile: If it doesn't, naming the file.
        OSError: If it can't be read.
    """
    with open_to_read(path) as file:
        content = file.read(MAX_BYTES + 1)
    try:
        if len(content) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        value = loads(content)
    except ValueError as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} is damaged: it holds no JSON object")
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
    """The objects of a file of JSON lines; what follows the last line end is half a line.

    Raises:
        DamagedFile: If a line is damaged, naming it.
    """
    return [parse_line(path, line, n) for n, line in enumerate(whole_lines(path), start=1)]


def parse_line(path: Path, line: bytes, number: int) -> dict[str, Any]:
    """The object of one line of a file.

    Args:
        path: Of the file, for the error.
        line: What is on it.
        number: From 1 on, likewise.

    Raises:
        DamagedFile: If it holds none.
    """
    try:
        value = loads(line)
        if not isinstance(value, dict):
            raise ValueError("it holds no JSON object")
    except ValueError as error:
        raise DamagedFile(f"{path}, line {number}, is damaged: {error}") from error
    return value


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file, without their ends; none if there is no such file.

    Raises:
        DamagedFile: If it is no ordinary file, or has lines of more than `MAX_BYTES`.
    """
    return list(_whole_lines(path))


def _whole_lines(path: Path) -> Iterator[bytes]:
    try:
        file = open_to_read(path)
    except FileNotFoundError:
        return
    with file:
        for number in itertools.count(1):
            line = file.readline(MAX_BYTES + 1)
            if len(line) > MAX_BYTES:
                raise DamagedFile(
                    f"{path}, line {number}, is damaged: it is longer than {MAX_BYTES} bytes"
                )
            if not line.endswith(b"\n"):
                return
            yield line[:-1]


def keep_lines(path: Path, count: int) -> None:
    """Cuts off what follows the first `count` lines of a file, if there is one.

    Raises:
        DamagedFile: If it has fewer lines.
    """
    if count == 0 and not path.exists():
        return
    kept = list(itertools.islice(_whole_lines(path), count))
    if len(kept) < count:
        raise DamagedFile(f"{path} is damaged: it has {len(kept)} lines, and must have {count}")
    with open_to_write(path) as file:
        file.truncate(sum(len(line) + 1 for line in kept))
