"""The forms of a table: in Markdown, on a terminal, and all columns in CSV.

What stands in it is decided in `tiegym.analysis.tables`. Names of policies come from command lines
and from files: here they are made harmless for the reader of each form.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from tiegym.analysis.markdown import markdown_table, markdown_text
from tiegym.atomic_write import write_bytes
from tiegym.data.tasks.names import METRIC_NAMES
from tiegym.runs.printable import printable

HEADINGS = (
    "policy",
    "protocol",
    "test perplexity, IQM [95 % CI]",
    "indep. layers",
    "extra iterations",
    "compared with its null model",
    "compared with the best pattern of its size",
    "test metrics",
)
NUMBERS = (2, 3, 4)
"""The columns of `HEADINGS` that stand to the right."""

BY_IMPORTANCE = (0, 2, 7, 5, 3, 6, 4, 1)
"""The columns of `HEADINGS`, in the order in which a terminal gives them its width."""


def four_digits(value: float) -> str:
    """A perplexity with four significant digits, zeros at the end included, and no exponent.

    Examples:
        >>> four_digits(10.0), four_digits(9.99996), four_digits(123456.0)
        ('10.00', '10.00', '123,456')
    """
    power = int(f"{value:.3e}".partition("e")[2])  # of ten, once it is rounded
    return f"{value:,.{max(0, 3 - power)}f}"


def cells(f: Mapping[str, Any]) -> list[str]:
    """The text of a row, in the order of `HEADINGS`."""
    interval = "" if f["low"] is None else f" [{four_digits(f['low'])}, {four_digits(f['high'])}]"
    return [
        printable(f["policy"]),
        printable(f["protocol"]),
        f"{four_digits(f['test_perplexity'])}{interval}",
        f"{f['n_independent']:.1f}",
        f"{f['extra_iterations']:,.0f}" if f["extra_iterations"] else "0",
        _verdict(f, "null"),
        _verdict(f, "best_fixed"),
        ", ".join(f"{name} {f[f'test_{name}']:.3f}" for name in _metrics(f)),
    ]


def _metrics(f: Mapping[str, Any]) -> list[str]:
    """The task's metrics that a row has."""
    return [name for name in METRIC_NAMES if f.get(f"test_{name}") is not None]


def _verdict(f: Mapping[str, Any], name: str) -> str:
    """Whom it was compared with, and the verdict, with a star where it stands among so many."""
    if f[name] is None:
        return ""
    verdict = f[f"{name}_verdict"]
    star = "*" * (verdict in ("better", "worse") and f[f"{name}_p_holm"] < 0.05)
    return f"{printable(f[name])}: {verdict}{star}"


def terminal_table(table: Sequence[Mapping[str, Any]], width: int) -> Table:
    """The table for `rich.print`, without columns that hold nothing or have no room.

    Args:
        table: Of `tiegym.analysis.tables.make_table`.
        width: Characters of a line. Columns come by importance, as long as no entry need wrap.
    """
    rows = [cells(f) for f in table]
    left = width - 1  # characters, without the last border
    used: dict[int, int] = {}
    for k in BY_IMPORTANCE:
        if all(row[k] in ("", "0") for row in rows):
            continue
        needs = max(*map(len, HEADINGS[k].split()), *(Text(row[k]).cell_len for row in rows))
        left -= needs + 3
        if used and left < 0:
            break
        used[k] = needs
    result = Table()
    for k, needs in sorted(used.items()):
        result.add_column(
            HEADINGS[k], justify="right" if k in NUMBERS else "left", width=min(needs, width - 4)
        )
    for row in rows:
        result.add_row(*(Text(row[k]) for k in sorted(used)))  # as it is: [...] is no markup here
    return result


def markdown(table: Sequence[Mapping[str, Any]], *texts: str) -> str:
    """The same in Markdown, below paragraphs of text; numbers stand to the right."""
    paragraphs = "".join(f"{markdown_text(text)}\n\n" for text in texts)
    rows = [cells(f) for f in table]
    used = [k for k in range(len(HEADINGS)) if k < 7 or any(row[k] for row in rows)]
    shown = ([markdown_text(row[k]) for k in used] for row in rows)
    left = [at for at, k in enumerate(used) if k not in NUMBERS]
    return paragraphs + markdown_table([HEADINGS[k] for k in used], shown, left)


def write_csv(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plain values, one line for each policy; atomic."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows({key: _csv_cell(value) for key, value in f.items()} for f in table)
    write_bytes(path, text.getvalue().encode("utf-8", "backslashreplace"))


def _csv_cell(value: Any) -> Any:
    """Text that a spreadsheet doesn't take for a formula: it gets an apostrophe before it."""
    if not isinstance(value, str):
        return value
    return (
        f"'{value}"
        if value.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") and value
        else value
    )
