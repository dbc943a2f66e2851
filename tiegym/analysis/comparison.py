"""A comparison of finished runs: its table, its text and its pictures, in files and on a terminal.

It runs nothing: what starts runs is no part of the package. The statistics are in
`tiegym.analysis.verdicts`, the pictures in `tiegym.pictures.comparison`.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tiegym.analysis import forms, tables
from tiegym.analysis.find import find_runs
from tiegym.analysis.groups import group_runs, state, without_tuning
from tiegym.analysis.rows import Row, check_comparable, make_row
from tiegym.atomic_write import write_bytes
from tiegym.pictures.comparison import plot_comparison, plot_pareto, plot_ties
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.messages import write as write_text
from tiegym.runs.printable import printable

COMPARISON, PARETO, TIES = "comparison.png", "pareto.png", "ties.png"
"""The files of a comparison's pictures."""


@dataclass(frozen=True)
class Judged:
    """Policies that were compared, best first."""

    rows: list[Row]
    table: list[dict[str, Any]]
    """Plain values of each row; see `tiegym.analysis.tables.make_table`."""
    setting: str
    """What all have in common, in words."""

    @property
    def pictures(self) -> list[str]:
        """Those that there are of it: where all runs diverged, there is no front to draw."""
        some = any(row.diverged < len(row.runs) for row in self.rows)
        return [COMPARISON, PARETO, TIES] if some else [COMPARISON, TIES]


def given_rows(folders: Sequence[Path], skip: Callable[[str], object] = warnings.warn) -> list[Row]:
    """The rows of finished runs: those that differ in nothing but the seed make one.

    Args:
        folders: Run folders, or folders that hold run folders. Of the latter, runs that aren't
            finished are left out.
        skip: Called with a sentence for each run that is left out.

    Raises:
        InputError: If a folder can't be read, or its run can't be compared.
    """
    if not folders:
        return []
    with as_input_errors():
        runs = without_tuning(find_runs(folders, skip), folders, skip)
    named = {folder.resolve() for folder in folders}
    counted = []
    for run in runs:
        if state(run) == "cut off" and run.folder.resolve() not in named:
            skip(f"{run.folder} is left out: it is not finished")
        else:
            counted.append(run)
    if not counted:
        raise InputError(f"no finished run in {', '.join(map(str, folders))}")
    return [make_row(group.label, group.runs) for group in group_runs(counted)]


def judge(rows: Sequence[Row]) -> Judged:
    """Compares policies, once.

    Raises:
        InputError: If the runs can't be compared.
    """
    check_comparable(rows)
    rows = sorted(rows, key=lambda row: row.perplexity)
    table = tables.make_table(rows)
    return Judged(rows, table, tables.setting(rows, table))


def write(judged: Judged, folder: Path) -> None:
    """Writes the table, as Markdown and CSV, and the pictures into a folder.

    Raises:
        InputError: If the folder can't be written.
    """
    text = forms.markdown(judged.table, judged.setting, tables.READING)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "comparison.md", text.encode("utf-8", "backslashreplace"))
        forms.write_csv(judged.table, folder / "comparison.csv")
        plot_comparison(judged.rows, folder / COMPARISON)
        if PARETO in judged.pictures:
            plot_pareto(judged.rows, folder / PARETO)
        else:
            (folder / PARETO).unlink(missing_ok=True)  # that of an older comparison
        plot_ties(judged.rows, folder / TIES)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error}") from error


def show(judged: Judged, folder: Path) -> None:
    """Prints the table and says where everything is.

    Args:
        judged: What was compared.
        folder: Where `write` has written it.
    """
    screen = Console()
    # Boxes are drawn with what the encoding has.
    text = io.TextIOWrapper(io.BytesIO(), screen.encoding, "backslashreplace", newline="\n")
    width = screen.width if screen.is_terminal else 220  # a file has room for every column
    console = Console(file=text, force_terminal=screen.is_terminal, width=width)
    console.print(forms.terminal_table(judged.table, console.width))
    for words in (judged.setting, tables.READING):
        console.print(printable(words), style="dim", highlight=False, markup=False)
    place = printable(folder)
    first, *others = judged.pictures
    console.print(
        f"all columns: {place}/comparison.csv\n"
        f"pictures:    {place}/{', '.join((first, *others[:-1]))} and {others[-1]}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    text.seek(0)
    write_text(text.read(), sys.stdout)
