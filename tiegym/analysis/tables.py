"""From rows to a table: one line for each policy, in the terminal, as Markdown and as CSV.

What the rows are and how they are compared is in `tiegym.analysis.rows`.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import JustifyMethod
from rich.table import Table

from tiegym import ties as tie_vectors
from tiegym.analysis.intervals import holm, iqm_interval
from tiegym.analysis.rows import Row, against, best_fixed, null_model, training_differences
from tiegym.analysis.verdicts import LEAST_SEEDS

REFERENCES = {"random": null_model, "best_fixed": best_fixed}
"""What each row is held against, by the name with which the columns about it begin."""

AGAINST = (
    *("", "_seeds", "_verdict"),
    *("_probability", "_probability_low", "_probability_high"),
    *("_difference", "_difference_low", "_difference_high", "_p_value", "_p_holm"),
)
"""The columns about a reference: its policy, and what `tiegym.analysis.verdicts` says;
`difference` is that of the test losses in nats, `p_holm` its p-value among those of all rows."""


def make_table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Plain values of all rows, by column of the CSV file."""
    table = [_figures(row, rows) for row in rows]
    for name in REFERENCES:
        tests = [f for f in table if (f[f"{name}_seeds"] or 0) >= LEAST_SEEDS]
        adjusted = holm([f[f"{name}_p_value"] for f in tests])
        for f, p_value in zip(tests, adjusted, strict=True):
            f[f"{name}_p_holm"] = p_value
    return table


def _figures(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    perplexity = iqm_interval(row.final("test_perplexity"))
    result: dict[str, Any] = {
        "policy": row.policy,
        "protocol": row.protocol,
        "seeds": len(row.runs),
        "diverged": row.diverged,
        "test_perplexity": perplexity.value,
        "low": perplexity.low,
        "high": perplexity.high,
        "test_bits_per_byte": row.mean("test_bits_per_byte"),
        "n_independent": row.mean("n_independent"),
        "trainable_params": row.mean("trainable_params"),
        "model_state_bytes": row.mean("model_state_bytes"),
        "seconds_per_iteration": row.seconds_per_iteration,
        "extra_iterations": row.extra_iterations,
    }
    for name, find in REFERENCES.items():
        values: Sequence[Any] = [None] * len(AGAINST)
        if (reference := find(rows, row)) is not None:
            c = against(row, reference)
            values = reference.policy, c.seeds, c.verdict, *c.probability, *c.difference, None
        result |= {f"{name}{end}": value for end, value in zip(AGAINST, values, strict=True)}
    return result


HEADINGS = (
    "policy",
    "protocol",
    "seeds",
    "test perplexity, IQM [95 % CI]",
    "bits/byte",
    "indep. layers",
    "parameters",
    "state MB",
    "s/iteration",
    "extra iters",
    "P(better than random)",
    "against random",
    "against best fixed of nearest size",
)


def four_digits(value: float) -> str:
    """A perplexity with four significant digits, zeros at the end included, and no exponent.

    Examples:
        >>> four_digits(10.0), four_digits(123456.0)
        ('10.00', '123,456')
    """
    decimals = max(0, 3 - math.floor(math.log10(value)))
    return f"{value:,.{decimals}f}"


def cells(f: Mapping[str, Any]) -> list[str]:
    """The text of a row, in the order of `HEADINGS`."""
    interval = "" if f["low"] is None else f" [{four_digits(f['low'])}, {four_digits(f['high'])}]"
    probability = ""
    if f["random_probability"] is not None:
        probability = f"{f['random_probability']:.2f}"
        if f["random_probability_low"] is not None:
            bounds = f["random_probability_low"], f["random_probability_high"]
            probability += " [{:.2f}, {:.2f}]".format(*bounds)
    return [
        f["policy"],
        f["protocol"],
        str(f["seeds"]) + (f" ({f['diverged']} diverged)" if f["diverged"] else ""),
        f"{four_digits(f['test_perplexity'])}{interval}",
        f"{f['test_bits_per_byte']:.3f}",
        f"{f['n_independent']:.1f}",
        f"{f['trainable_params']:,.0f}",
        f"{f['model_state_bytes'] / 1e6:.1f}",
        f"{f['seconds_per_iteration']:.4f}",
        f"{f['extra_iterations']:,.0f}" if f["extra_iterations"] else "0",
        probability,
        _verdict(f, "random"),
        f"{f['best_fixed']}: {_verdict(f, 'best_fixed')}" if f["best_fixed"] else "",
    ]


def _verdict(f: Mapping[str, Any], name: str) -> str:
    """A verdict, with a star where it stands among so many."""
    verdict = f[f"{name}_verdict"] or ""
    return verdict + "*" * (verdict in ("better", "worse") and f[f"{name}_p_holm"] < 0.05)


def caption(rows: Sequence[Row], table: Sequence[Mapping[str, Any]]) -> str:
    """What all rows have in common or differ in, and how far their figures can be trusted.

    Args:
        rows: The policies.
        table: What `make_table` makes of them.
    """
    config = rows[0].runs[0].config
    env, n = config["env"], config["env"]["n_layer"]
    tests = {name: sum(f[f"{name}_p_holm"] is not None for f in table) for name in REFERENCES}
    sentences = [
        f"{n} layers, width {env['n_embd']}, context {env['block_size']}, corpus {env['corpus']}, "
        f"tokenizer {env['tokenizer']}, {env['max_iters']} iterations of "
        f"{env['batch_size']} sequences, device {config['device']}.",
        *_differences(rows),
        f"A uniformly random policy leaves {tie_vectors.expected_independent(n):.2f} independent "
        "layers on average.",
        "The IQM's interval, 95 % by name, covers 87 to 90 % with four or five seeds.",
        "'better' and 'worse' stand only where 95 % intervals of the difference in test loss "
        "(Student's) and of the probability (bootstrap) both say so, over at least "
        f"{LEAST_SEEDS} seeds.",
    ]
    if any(tests.values()):
        kinds = {"random": "random", "best_fixed": "patterns"}
        counts = [f"{tests[name]} against {kind}" for name, kind in kinds.items() if tests[name]]
        sentences.append(
            f"Each is a test of its own ({' and '.join(counts)}), and some of so many say so by "
            "chance; a star marks those that stand with Holm's correction for their column."
        )
    if any(f["best_fixed"] for f in table):
        sentences.append(
            "A pattern of nearest size has as many independent layers as the policy has on "
            "average, rounded."
        )
    return " ".join(sentences)


def _differences(rows: Sequence[Row]) -> list[str]:
    """A sentence for each training setting that isn't the same for all policies."""
    sentences = []
    for key, policies in training_differences(rows).items():
        usual, *others = policies
        text = "; ".join(f"{value} for {', '.join(policies[value])}" for value in others)
        sentences.append(f"{key} is {usual}, but {text}.")
    return sentences


BY_IMPORTANCE = (0, 3, 5, 11, 12, 2, 1, 10, 6, 4, 9, 7, 8)
"""The columns of `HEADINGS`, in the order in which a terminal gives them its width."""


def terminal_table(table: Sequence[Mapping[str, Any]], width: int) -> Table:
    """The table for `rich.print`, without columns that hold nothing or have no room.

    Args:
        table: Of `make_table`.
        width: Characters of a line. Columns come by importance, as long as no entry need wrap.
    """
    rows = [cells(f) for f in table]
    left = width - 1  # characters, without the last border
    used: dict[int, int] = {}
    for k in BY_IMPORTANCE:
        if all(row[k] in ("", "0") for row in rows):
            continue
        needs = max(*map(len, HEADINGS[k].split()), *(len(row[k]) for row in rows))
        left -= needs + 3
        if used and left < 0:
            break
        used[k] = needs
    result = Table()
    for k, needs in sorted(used.items()):
        justify: JustifyMethod = "left" if k in (0, 1, 11, 12) else "right"
        result.add_column(HEADINGS[k], justify=justify, width=min(needs, width - 4))
    for row in rows:
        result.add_row(*(row[k] for k in sorted(used)))
    return result


def markdown(table: Sequence[Mapping[str, Any]], text: str) -> str:
    """The same in Markdown, with its caption."""
    lines = [
        text,
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "| " + " | ".join("---" for _ in HEADINGS) + " |",
    ]
    lines += ["| " + " | ".join(cells(f)) + " |" for f in table]
    return "\n".join(lines) + "\n"


def write_csv(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plain values, one line for each policy."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
