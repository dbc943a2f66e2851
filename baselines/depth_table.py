"""The table of what depth is worth: untied transformers and sharings beside all layers untied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tiegym.analysis.intervals import paired_difference
from tiegym.analysis.markdown import markdown_table
from tiegym.analysis.rows import Row
from tiegym.analysis.tables import common

HEADINGS = (
    *("transformer", "trainable parameters", "test loss, nats", "s.d. of seeds"),
    "over independent, paired [95 %]",
)


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown, best first; differences are of the same seeds, in nats.

    Args:
        rows: One of them is named independent; all have the same seeds.
    """
    (whole,) = (row for row in rows if row.policy.split()[0] == "independent")
    lines = []
    for row in sorted(rows, key=lambda row: float(np.mean(list(row.losses.values())))):
        losses = [row.losses[seed] for seed in whole.seeds]
        difference = ""
        if row is not whole and len(losses) > 1:
            d = paired_difference(losses, [whole.losses[seed] for seed in whole.seeds])
            difference = f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
        spread = f"{np.std(losses, ddof=1):.4f}" if len(losses) > 1 else ""
        parameters = f"{row.mean('trainable_params'):,.0f}"
        lines.append((row.policy, parameters, f"{np.mean(losses):.4f}", spread, difference))
    return f"{common(rows)}\n\n{markdown_table(HEADINGS, lines)}"
