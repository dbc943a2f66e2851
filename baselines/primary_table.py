"""A main study's primary comparisons, as a table and a picture: what learned policies are worth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tiegym.analysis.comparison import Judged
from tiegym.analysis.markdown import markdown_table, markdown_text
from tiegym.analysis.rows import NO_LEARNING
from tiegym.pictures.forest import Estimate, plot_forest
from tiegym.runs.input_errors import InputError

LEVEL = 0.05
"""Of Holm's correction: what stands by it has the star."""

REFERENCES = {
    "null": "over its null model",
    "random_fixed": "over random-fixed",
    "best_fixed": "over the best pattern of its size",
    "shallow": "over the untied transformer of its size",
}
"""By their names in `tiegym.analysis.tables`."""
MUST_BEAT = ("null", "best_fixed")
"""Whom a policy wins over."""
DRAWN = ("null", "best_fixed", "shallow")
"""A picture has room for three."""

_DIFFERENCES = tuple(f"{heading} [95 %]" for heading in REFERENCES.values())
HEADINGS = (
    *("learned policy", "indep. layers", "extra iterations", "test loss, nats"),
    *(*_DIFFERENCES, "wins"),
)


def markdown(judged: Judged) -> str:
    """The rows of policies that learn, in Markdown; differences are in nats of test loss."""
    rows = []
    for row, f in zip(judged.rows, judged.table, strict=True):
        if f["protocol"] != NO_LEARNING:
            cells = (
                f["policy"],
                f"{f['n_independent']:.1f}",
                f"{f['extra_iterations']:,.0f}",
                f"{np.mean(list(row.losses.values())):.4f}",
            )
            differences = (_difference(f, name) for name in REFERENCES)
            rows.append(tuple(map(markdown_text, (*cells, *differences, wins(f)))))
    return markdown_table(HEADINGS, rows)


def wins(f: Mapping[str, Any]) -> str:
    """Whether a policy is better than chance and than the best pattern of its size, with the star.

    Args:
        f: Its row of `tiegym.analysis.tables.make_table`.

    Returns:
        yes or no; nothing where one of them is not in the comparison, or seeds are too few.
    """
    p_values = [f[f"{name}_p_holm"] for name in MUST_BEAT]
    if None in p_values:
        return ""
    better = all(f[f"{name}_difference"] < 0 for name in MUST_BEAT)
    return "yes" if better and max(p_values) < LEVEL else "no"


def draw(judged: Judged, path: Path) -> bool:
    """Draws the differences of the policies that have all of them, full ones with the star.

    Returns:
        Whether there are any.

    Raises:
        InputError: If the file can't be written.
    """
    rows = [
        f
        for f in judged.table
        if f["protocol"] != NO_LEARNING and all(f[f"{n}_p_holm"] is not None for n in DRAWN)
    ]
    if not rows:
        return False
    panels = {REFERENCES[name]: [_estimate(f, name) for f in rows] for name in DRAWN}
    what = "nats of test loss, paired by seed; less is better"
    try:
        plot_forest(panels, what, path, beside_first=False)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error}") from error
    return True


def _estimate(f: Mapping[str, Any], name: str) -> Estimate:
    value, low, high = (f[f"{name}_difference{end}"] for end in ("", "_low", "_high"))
    return Estimate(f["policy"], value, low, high, f[f"{name}_p_holm"] < LEVEL)


def _difference(f: Mapping[str, Any], name: str) -> str:
    value, low, high = (f[f"{name}_difference{end}"] for end in ("", "_low", "_high"))
    if low is None:  # nothing to compare with, or a single seed
        return ""
    p_value = f[f"{name}_p_holm"]
    star = "*" * (p_value is not None and p_value < LEVEL)
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]{star} {f[name]}"
