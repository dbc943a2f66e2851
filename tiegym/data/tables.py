"""Files of rows (CSV, JSON lines, JSON, Parquet, Arrow): their column of text, row by row.

Only the column of text is looked at: what is in the others never decides. Nothing is cached, no
value stands for another, and what a row lacks is an error that names the row.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
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

USUAL = ("text", "sentence")
"""Columns that are the text, whatever else there is."""

_LARGEST_CELL = 2**31 - 1


def is_table(path: Path) -> bool:
    """Whether a file's name says that it holds rows."""
    return path.suffix.lower() in KINDS


def read_rows(path: Path) -> list[str]:
    """The column of text, a string for each row, each with a line end.

    Raises:
        ValueError: If the file is damaged, or no column is clearly the text.
        OSError: If it can't be read.
    """
    kind = KINDS[path.suffix.lower()]
    name = repr(str(path))
    try:
        if kind in ("parquet", "arrow"):
            return _read_arrow(path, kind)
        text = read_utf8(path)
        columns = _read_json(text, path) if kind == "json" else _read_csv(text, kind)
    except _DamagedError as error:
        raise ValueError(f"{name} can't be read as {kind}: {error}") from error
    return _with_line_ends(columns[_choose(_not_text(columns), name)])


def lines(table: pyarrow.Table, name: str) -> list[str]:
    """The same of a table in memory.

    Args:
        table: Its columns of strings may be of any of Arrow's types for strings.
        name: What messages call it.

    Raises:
        ValueError: If no column is clearly the text.
    """
    column = table.column(_choose_by_type(table.schema, name))
    try:
        return _with_line_ends(column.to_pylist())
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} holds strings that are not UTF-8: {error}") from error


class _DamagedError(ValueError):
    """What is wrong, and in which line."""


def _choose(columns: dict[str, str | None], name: str) -> str:
    """The name of the column of text.

    Args:
        columns: For each, why it can't be the text; None if it can.
        name: What messages call the table.
    """
    there = f"it has the columns {', '.join(columns) or '(none)'}"
    for usual in USUAL:
        if usual not in columns:
            continue
        if reason := columns[usual]:
            raise ValueError(
                f"{name} has a column {usual!r}, but {reason}: the text must be strings in a "
                f"column 'text'; {there}"
            )
        return usual
    strings = [column for column, reason in columns.items() if reason is None]
    if len(strings) != 1:
        raise ValueError(
            f"{name} needs a column 'text', or just one column of strings: rename the one that "
            f"is to be read; {there}"
        )
    return strings[0]


def _choose_by_type(schema: pyarrow.Schema, name: str) -> str:
    import pyarrow as pa

    if len(set(schema.names)) < len(schema.names):
        raise ValueError(f"{name} has two columns of one name: {', '.join(schema.names)}")
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    columns = {}
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        is_text = any(test(kind) for test in tests)
        columns[field.name] = None if is_text else f"its type is {kind}"
    return _choose(columns, name)


def _not_text(columns: dict[str, list[Any]]) -> dict[str, str | None]:
    """For each column, its first cell that is neither a string nor missing; None without one."""
    kinds = {bool: "true or false", float: "a number", dict: "an object", list: "a list"}

    def reason(cells: list[Any]) -> str | None:
        for number, cell in enumerate(cells, start=1):
            if cell is not None and not isinstance(cell, str):
                return f"row {number} of it is {kinds[type(cell)]}"
        return None if any(cell is not None for cell in cells) else "it is empty"

    return {name: reason(cells) for name, cells in columns.items()}


def _with_line_ends(cells: Sequence[str | None]) -> list[str]:
    # A JSON escape can stand for half a character, which no encoding can write.
    rows = ((cell or "").encode("utf-8", "replace").decode() for cell in cells)
    return [row if row.endswith("\n") else row + "\n" for row in rows]


def _read_csv(text: str, kind: str) -> dict[str, list[Any]]:
    """Columns by their name in the first line; cells that are all numbers become numbers."""
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
    _check_header(names, kind)
    columns = {name: [row[k] for row in cells] for k, name in enumerate(names)}
    return {
        name: column if name in USUAL or not all(map(_is_number, column)) else [0.0]
        for name, column in columns.items()
    }


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


def _check_header(names: list[str], kind: str) -> None:
    """Refuses a first line that isn't the names of columns: a text without, or other separators."""
    if any(usual in names for usual in USUAL):
        return
    if len(names) == 1 and (found := re.search(r"[;\t|,]", names[0])):
        wanted = "a tab" if kind == "tsv" else "a comma"
        raise _DamagedError(f"cells are separated by {found[0]!r}, and not by {wanted}")
    for name in names:
        is_number = name and _is_number(name)
        if is_number or len(name) > 60 or re.search(r"[.,;:!?](\s|$)|\S\s+\S+\s+\S+\s+\S", name):
            raise _DamagedError(f"line 1 must name the columns, but has {name[:60]!r}: add a line")


def _is_number(cell: str) -> bool:
    try:
        float(cell or "0")
    except ValueError:
        return False
    return True


def _read_json(text: str, path: Path) -> dict[str, list[Any]]:
    """Columns by key: of JSON lines, or of one list of objects."""
    rows = None
    if path.suffix.lower() == ".json":
        rows = _whole_json(text)
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
    return {name: [row.get(name) for _, row in rows] for name in names}


def _whole_json(text: str) -> list[tuple[str, Any]] | None:
    """The rows of a .json file that is one value; None if it isn't one."""
    try:
        value = _parse(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # JSON lines by another name
            return None
        raise _DamagedError(f"line {error.lineno}: {error.msg}") from error
    if isinstance(value, dict) and not any(usual in value for usual in USUAL):
        raise _DamagedError("it is one object, not rows: write a list of objects, or JSON lines")
    values = value if isinstance(value, list) else [value]
    return [(f"entry {number}", row) for number, row in enumerate(values, start=1)]


def _parse_line(line: str, number: int) -> Any:
    try:
        return _parse(line, f"line {number}")
    except json.JSONDecodeError as error:
        raise _DamagedError(f"line {number}, column {error.colno}: {error.msg}") from error


def _parse(text: str, what: str = "it") -> Any:
    """JSON in which a number may have any size; too great a depth is an error like others."""
    try:
        return json.loads(text, parse_int=float)
    except RecursionError as error:
        raise _DamagedError(f"{what} is nested too deeply") from error


def _read_arrow(path: Path, kind: str) -> list[str]:
    import pyarrow as pa
    from pyarrow import ipc, parquet

    name = repr(str(path))
    # By an open file: a path would be taken for an address, or for a part of a data set.
    with path.open("rb") as file:
        try:
            if kind == "parquet":
                rows = parquet.ParquetFile(file)
                table = rows.read(columns=[_choose_by_type(rows.schema_arrow, name)])
            else:
                is_file = file.read(6) == b"ARROW1"
                file.seek(0)
                table = (ipc.open_file if is_file else ipc.open_stream)(file).read_all()
        except (pa.ArrowException, OSError) as error:
            raise _DamagedError(str(error)) from error
    return lines(table, name)
