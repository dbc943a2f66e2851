"""The table of what depth is worth: untied transformers and sharings beside all layers untied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tiegym.analysis.intervals import paired_difference
from tiegym.analysis.rows import Row

HEADINGS = (
    *("transformer", "trainable parameters", "test loss, nats", "s.d. of seeds"),
    "over independent, paired [95 %]",
)


def markdown(rows: Sequence[Row], setting: str) -> str:
    """The table in Markdown, best first; differences are of the same seeds, in nats.

    Args:
        rows: One of them is named independent; all have the same seeds.
        setting: What all have in common, in words.
    """
    (whole,) = (row for row in rows if row.policy.split()[0] == "independent")
    lines = [" | ".join(HEADINGS), " | ".join(["---", *["---:"] * (len(HEADINGS) - 1)])]
    for row in sorted(rows, key=lambda row: float(np.mean(list(row.losses.values())))):
        losses = [row.losses[seed] for seed in whole.seeds]
        difference = ""
        if row is not whole and len(losses) > 1:
            d = paired_difference(losses, [whole.losses[seed] for seed in whole.seeds])
            difference = f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
        spread = f"{np.std(losses, ddof=1):.4f}" if len(losses) > 1 else ""
        parameters = f"{row.mean('trainable_params'):,.0f}"
        cells = (row.policy, parameters, f"{np.mean(losses):.4f}", spread, difference)
        lines.append(" | ".join(cells))
    return "\n".join([setting, "", *(f"| {line} |" for line in lines)]) + "\n"
