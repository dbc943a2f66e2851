"""The table of a main study's primary comparisons: what each learned policy is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiegym.analysis.forms import markdown_text
from tiegym.analysis.rows import NO_LEARNING

LEVEL = 0.05
"""Of Holm's correction: what stands by it has the star."""

REFERENCES = {
    "null": "over its null model [95 %]",
    "random_fixed": "over random-fixed [95 %]",
    "best_fixed": "over the best pattern of its size [95 %]",
}
MUST_BEAT = ("null", "best_fixed")
HEADINGS = ("learned policy", "indep. layers", "perplexity", *REFERENCES.values(), "wins")


def markdown(table: Sequence[Mapping[str, Any]]) -> str:
    """The rows of policies that learn, in Markdown; differences are in nats of test loss.

    Args:
        table: Of `tiegym.analysis.tables.make_table`.
    """
    rows = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1))]
    for f in table:
        if f["protocol"] != NO_LEARNING:
            size = f"{f['n_independent']:.1f}"
            cells = (f["policy"], size, f"{f['test_perplexity']:.3f}")
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


def _difference(f: Mapping[str, Any], name: str) -> str:
    value, low, high = (f[f"{name}_difference{end}"] for end in ("", "_low", "_high"))
    if low is None:  # nothing to compare with, or a single seed
        return ""
    star = "*" * ((f[f"{name}_p_holm"] or 1.0) < LEVEL)
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]{star} {f[name]}"
