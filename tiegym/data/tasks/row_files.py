"""A user's files of rows for a task: one table, or a folder with one for each split or several.

A folder's links are not followed: what a task trains on lies in it.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from tiegym.data import splits, table_files
from tiegym.data.splits import SPLITS
from tiegym.data.table_files import Columns


def files_of_splits(path: Path, corpus: str) -> dict[str, list[Path]]:
    """The tables of each split; all are under "train" if none is named for one.

    Args:
        path: A file, or a folder, in which each table must be named for a split, by its own name or
            by those of its folders, or none.
        corpus: What messages call it.

    Raises:
        ValueError: If there is no table, names leave the splits in doubt, or a file is no regular
            one.
        OSError: If the folder can't be read.
    """
    if not path.is_dir():
        return {"train": [path]}
    found: dict[str, list[Path]] = {}
    for file in regular_files(path, corpus):
        relative = file.relative_to(path)
        named = splits.named(relative)
        if not table_files.is_table(file):
            if named and file.suffix.lower() == ".txt":
                raise ValueError(
                    f"corpus={corpus!r}: {str(relative)!r} is text without labels: write CSV, JSON "
                    "lines or Parquet"
                )
            continue  # a description, a licence
        if len(named) > 1:
            raise ValueError(
                f"corpus={corpus!r}: the name of {str(relative)!r} means "
                f"{' and '.join(s for s in SPLITS if s in named)}: rename the file or its folder"
            )
        found.setdefault(next(iter(named), ""), []).append(file)
    if not found:
        raise ValueError(
            f"corpus={corpus!r} is a folder without tables: bring CSV, JSON lines or Parquet files"
        )
    if "" in found:
        if len(found) > 1:
            raise ValueError(
                f"corpus={corpus!r}: some tables are named for a split, and others are not, such "
                f"as {str(found[''][0].relative_to(path))!r}: name all of them (train, validation, "
                "test), or none"
            )
        return {"train": found[""]}
    if "train" not in found:
        raise ValueError(f"corpus={corpus!r} has no training rows: no table is named train")
    splits.check_different(found, corpus)
    return found


def regular_files(folder: Path, corpus: str) -> Iterator[Path]:
    """All files below a folder, sorted, but hidden ones.

    Raises:
        ValueError: At a link, and at what is neither a file nor a folder.
        OSError: If a folder can't be read.
    """

    def fail(error: OSError) -> None:
        raise error

    found = []
    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
        found += [Path(place, name) for name in folders if Path(place, name).is_symlink()]
    for path in sorted(found):
        if path.is_symlink() or not path.is_file():
            what = "a link" if path.is_symlink() else "no regular file"
            raise ValueError(
                f"corpus={corpus!r}: {str(path.relative_to(folder))!r} is {what}: put a copy of "
                "what it stands for in its place, or remove it"
            )
        yield path


def read_columns(path: Path, wanted: Collection[str]) -> tuple[Columns, list[str]]:
    """The wanted columns of a table that it has, and the names of all of its columns.

    Raises:
        ValueError: If the file is damaged.
        OSError: If it can't be read.
    """
    if not table_files.is_table(path):
        kinds = ", ".join(table_files.KINDS)
        raise ValueError(f"{str(path)!r} is no table: a task's rows are read from {kinds}")
    if table_files.kind(path) not in ("parquet", "arrow"):
        columns = table_files.read_columns(path, wanted)
        return {name: columns[name] for name in columns if name in wanted}, list(columns)
    names: list[str] = []

    def choose(schema: Any) -> list[str]:
        names.extend(schema.names)
        if len(set(names)) < len(names):
            raise ValueError(f"{str(path)!r} has two columns of one name: {', '.join(names)}")
        return [name for name in names if name in wanted]

    table = table_files.read_arrow(path, choose)
    return table.to_pydict(), names


def require_text(cells: list[Any], where: str) -> list[str]:
    """A column of strings.

    Args:
        cells: As read.
        where: What messages call the column.

    Raises:
        ValueError: If a cell is missing or no string.
    """
    for row, cell in enumerate(cells, start=1):
        if not isinstance(cell, str):
            what = "missing" if cell is None else f"a {type(cell).__name__}, not a string"
            raise ValueError(f"{where}: row {row} is {what}")
    # A JSON escape can stand for half a character, which no encoding can write.
    return [cell.encode("utf-8", "replace").decode() for cell in cells]
