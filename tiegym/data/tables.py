"""The column of text of a file of rows, row by row; the files are read in `table_files`.

Only the column of text is looked at: what is in the others never decides. Nothing is cached, no
value stands for another, and what a row lacks is an error that names the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiegym.data import table_files
from tiegym.data.table_files import is_table

if TYPE_CHECKING:
    import pyarrow

__all__ = ["is_table", "lines", "read_rows"]

USUAL = ("text", "sentence")
"""Columns that are the text, whatever else there is."""


def read_rows(path: Path) -> list[str]:
    """The column of text, a string for each row, each with a line end.

    Raises:
        ValueError: If the file is damaged, or no column is clearly the text.
        OSError: If it can't be read.
    """
    name = repr(str(path))
    if table_files.kind(path) in ("parquet", "arrow"):
        return lines(table_files.read_arrow(path, lambda s: [_choose_by_type(s, name)]), name)
    columns = table_files.read_columns(path, USUAL)
    if table_files.kind(path) != "json":  # of CSV, all cells are strings
        columns = {
            name: column if name in USUAL or not all(map(table_files.is_number, column)) else [0.0]
            for name, column in columns.items()
        }
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
