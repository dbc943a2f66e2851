"""Files of rows (CSV, JSON lines, JSON, Parquet, Arrow): their columns, by name.

Which columns mean what is for others to say. Nothing is cached, and no value stands for another.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiegym.data.text_files import read_utf8

if TYPE_CHECKING:
    import pyarrow

KINDS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".jsonlines": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
"""File types that hold rows; all others are text."""

_LARGEST_CELL = 2**31 - 1
MOST_COLUMNS = 10_000
"""Of JSON, where each row may bring names of its own."""

Columns = dict[str, list[Any]]
"""Columns by name: in CSV all cells are strings; in JSON numbers are floats; None is missing."""


def kind(path: Path) -> str | None:
    """Which kind of rows a file's name promises: csv, tsv, json, parquet or arrow."""
    return KINDS.get(path.suffix.lower())


def is_table(path: Path) -> bool:
    """Whether a file's name says that it holds rows."""
    return kind(path) is not None


class _DamagedError(ValueError):
    """What is wrong, and in which line."""


def read_columns(path: Path, usual: Collection[str]) -> Columns:
    """The columns of a file of CSV or JSON.

    Args:
        path: The file.
        usual: Names of columns; a first line of CSV that has one of them names columns for sure.

    Raises:
        ValueError: If the file is damaged.
        OSError: If it can't be read.
    """
    text = read_utf8(path)
    try:
        if kind(path) == "json":
            return _read_json(text, path, usual)
        return _read_csv(text, str(kind(path)), usual)
    except _DamagedError as error:
        raise ValueError(f"{str(path)!r} can't be read as {kind(path)}: {error}") from error


def read_arrow(path: Path, choose: Callable[[pyarrow.Schema], list[str]]) -> pyarrow.Table:
    """Columns of a file of Parquet or Arrow.

    Args:
        path: The file.
        choose: Of its schema, the names of the columns to read.

    Raises:
        ValueError: If the file is damaged; and what `choose` raises.
        OSError: If it can't be read.
    """
    import pyarrow as pa
    from pyarrow import ipc, parquet

    # By an open file: a path would be taken for an address, or for a part of a data set.
    with path.open("rb") as file:
        try:
            if kind(path) == "parquet":
                rows = parquet.ParquetFile(file)
                table = rows.read(columns=choose(rows.schema_arrow))
            else:
                is_file = file.read(6) == b"ARROW1"
                file.seek(0)
                whole = (ipc.open_file if is_file else ipc.open_stream)(file).read_all()
                table = whole.select(choose(whole.schema))
            table.validate(full=True)  # what it says of places in memory is followed unseen else
            return table
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{str(path)!r} can't be read as {kind(path)}: {error}") from error


def is_number(cell: str) -> bool:
    """Whether a cell of CSV is a number, or empty."""
    try:
        float(cell or "0")
    except ValueError:
        return False
    return True


def parse_json(text: str, what: str = "it") -> Any:
    """JSON in which a number may have any size; too great a depth is an error like others.

    Raises:
        ValueError: If it is damaged (`json.JSONDecodeError`) or nested too deeply.
    """
    try:
        return json.loads(text, parse_int=float)
    except RecursionError as error:
        raise _DamagedError(f"{what} is nested too deeply") from error


def _read_csv(text: str, kind: str, usual: Collection[str]) -> Columns:
    """Columns by their name in the first line."""
    before = csv.field_size_limit(_LARGEST_CELL)  # a setting of the whole process
    try:
        reader = csv.reader(
            _physical_lines(text), delimiter="\t" if kind == "tsv" else ",", strict=True
        )
        rows = _csv_rows(reader)
        names = next(rows, (0, []))[1]
        if len(set(names)) < len(names):
            raise _DamagedError(f"two columns have one name: {', '.join(names)}")
        cells: list[list[str]] = []
        for line, row in rows:
            if len(row) != len(names):
                raise _DamagedError(
                    f"line {line} has {len(row)} cells, but the first line names {len(names)} "
                    "columns; a cell that holds a separator must be in double quotes"
                )
            cells.append(row)
    finally:
        csv.field_size_limit(before)
    _check_header(names, kind, usual)
    return {name: [row[k] for row in cells] for k, name in enumerate(names)}


def _csv_rows(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Rows that aren't blank, with the number of their last line."""
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _DamagedError(f"line {reader.line_num}: {error}") from error
        if row:
            yield reader.line_num, row


def _physical_lines(text: str) -> Iterator[str]:
    """Lines as `csv` counts them: str.splitlines would cut at a dozen other characters."""
    return (match[0] for match in re.finditer(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z", text))


def _check_header(names: list[str], kind: str, usual: Collection[str]) -> None:
    """Refuses a first line that isn't the names of columns: a text without, or other separators."""
    if any(name in names for name in usual):
        return
    if len(names) == 1 and (found := re.search(r"[;\t|,]", names[0])):
        wanted = "a tab" if kind == "tsv" else "a comma"
        raise _DamagedError(f"cells are separated by {found[0]!r}, and not by {wanted}")
    for name in names:
        if (
            (name and is_number(name))
            or len(name) > 60
            or re.search(r"[.,;:!?](\s|$)|\S\s+\S+\s+\S+\s+\S", name)
        ):
            raise _DamagedError(f"line 1 must name the columns, but has {name[:60]!r}: add a line")


def _read_json(text: str, path: Path, usual: Collection[str]) -> Columns:
    """Columns by key: of JSON lines, or of one list of objects."""
    rows = None
    if path.suffix.lower() == ".json":
        rows = _whole_json(text, usual)
    if rows is None:
        rows = [
            (f"line {number}", _parse_line(line, number))
            for number, line in enumerate(text.split("\n"), start=1)
            if line.strip()
        ]
    for where, row in rows:
        if not isinstance(row, dict):
            raise _DamagedError(f'{where} is no object such as {{"text": "..."}}')
    names = dict.fromkeys(name for _, row in rows for name in row)
    if len(names) > MOST_COLUMNS:
        raise _DamagedError(f"its rows have {len(names)} different names; {MOST_COLUMNS} at most")
    return {name: [row.get(name) for _, row in rows] for name in names}


def _whole_json(text: str, usual: Collection[str]) -> list[tuple[str, Any]] | None:
    """The rows of a .json file that is one value; None if it isn't one."""
    try:
        value = parse_json(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # JSON lines by another name
            return None
        raise _DamagedError(f"line {error.lineno}: {error.msg}") from error
    if isinstance(value, dict) and not any(name in value for name in usual):
        raise _DamagedError("it is one object, not rows: write a list of objects, or JSON lines")
    values = value if isinstance(value, list) else [value]
    return [(f"entry {number}", row) for number, row in enumerate(values, start=1)]


def _parse_line(line: str, number: int) -> Any:
    try:
        return parse_json(line, f"line {number}")
    except json.JSONDecodeError as error:
        raise _DamagedError(f"line {number}, column {error.colno}: {error.msg}") from error
