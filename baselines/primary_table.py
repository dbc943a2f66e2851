"""A main study's primary comparisons, as a table and a picture: what learned policies are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiegym.analysis.forms import markdown_text
from tiegym.analysis.rows import NO_LEARNING
from tiegym.pictures.forest import Estimate, plot_forest
from tiegym.runs.input_errors import InputError

LEVEL = 0.05
"""Of Holm's correction: what stands by it has the star."""

REFERENCES = {
    "null": "over its null model",
    "random_fixed": "over random-fixed",
    "best_fixed": "over the best pattern of its size",
}
MUST_BEAT = ("null", "best_fixed")
_DIFFERENCES = tuple(f"{heading} [95 %]" for heading in REFERENCES.values())
HEADINGS = ("learned policy", "indep. layers", "perplexity", *_DIFFERENCES, "wins")


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The rows of policies that learn, in Markdown; differences are in nats of test loss.

    Args:
        table: Of `tiegym.analysis.tables.make_table`.
    """
    rows = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1))]
    for f in _learned(table):
        cells = (f["policy"], f"{f['n_independent']:.1f}", f"{f['test_perplexity']:.3f}")
        differences = (_difference(f, name) for name in REFERENCES)
        rows.append(tuple(map(markdown_text, (*cells, *differences, wins(f)))))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def wins(f: Mapping[str, Any]) -> str:
    """Whether a policy is better than chance and than the best pattern of its size, with the star.

    Returns:
        yes or no; nothing where one of them is not in the comparison, or seeds are too few.
    """
    p_values = [f[f"{name}_p_holm"] for name in MUST_BEAT]
    if None in p_values:
        return ""
    better = all(f[f"{name}_difference"] < 0 for name in MUST_BEAT)
    return "yes" if better and max(p_values) < LEVEL else "no"


def draw(table: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draws the differences of the policies that have all three, full ones with the star.

    Returns:
        Whether there are any.

    Raises:
        InputError: If the file can't be written.
    """
    rows = [
        f for f in _learned(table) if all(f[f"{name}_p_holm"] is not None for name in REFERENCES)
    ]
    if not rows:
        return False
    panels = {
        heading: [
            Estimate(
                f["policy"],
                f[f"{name}_difference"],
                f[f"{name}_difference_low"],
                f[f"{name}_difference_high"],
                f[f"{name}_p_holm"] < LEVEL,
            )
            for f in rows
        ]
        for name, heading in REFERENCES.items()
    }
    what = "nats of test loss, paired by seed; less is better"
    try:
        plot_forest(panels, what, path, beside_first=False)
    except OSError as error:
        raise InputError(f"{path} can't be written: {error}") from error
    return True


def _learned(table: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [f for f in table if f["protocol"] != NO_LEARNING]


def _difference(f: Mapping[str, Any], name: str) -> str:
    value, low, high = (f[f"{name}_difference{end}"] for end in ("", "_low", "_high"))
    if low is None:  # nothing to compare with, or a single seed
        return ""
    p_value = f[f"{name}_p_holm"]
    star = "*" * (p_value is not None and p_value < LEVEL)
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]{star} {f[name]}"
