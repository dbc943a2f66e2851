"""From run folders to a table: one row for each policy, in the terminal, as Markdown and as CSV.

It reads folders, not objects: whatever wrote them can be compared.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import JustifyMethod
from rich.table import Table

from baselines.intervals import (
    Interval,
    iqm_interval,
    paired_difference,
    probability_of_improvement,
)
from tiegym import ties as tie_vectors
from tiegym.input_errors import InputError
from tiegym.records import Run

NULL_MODEL = "random_tying"
NO_LEARNING = "none"
LEAST_SEEDS = 4
"""Two policies without a difference have all runs of one below all of the other in 1 of 10 cases
with three seeds each, in 1 of 35 with four: below that, no verdict."""


@dataclass(frozen=True)
class Row:
    """The runs of one policy, one for each seed, in the order of the seeds."""

    policy: str
    protocol: str
    """online, pretrained, or none for what learns nothing."""
    runs: tuple[Run, ...]

    def final(self, key: str) -> list[float]:
        """A figure at the end of each run."""
        return [float(run.summary["final"][key]) for run in self.runs if run.summary]

    def mean(self, key: str) -> float:
        """Its mean over seeds."""
        return float(np.mean(self.final(key)))

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [int(run.config["options"]["seed"]) for run in self.runs]

    @property
    def program(self) -> str:
        """The program that made the runs."""
        return str(self.runs[0].config["program"])

    @property
    def tie_grad(self) -> str:
        """Gradients of tied layers in the runs: owner or sum."""
        return str(self.runs[0].config["env"]["tie_grad"])

    @property
    def seconds_per_iteration(self) -> float:
        """Median over all steps of all runs, evaluation left out."""
        return float(np.median([s["seconds_per_iteration"] for r in self.runs for s in r.steps]))

    @property
    def extra_iterations(self) -> float:
        """Iterations spent besides the run's own: before it, or on trials; mean over seeds."""
        return float(np.mean([run.summary.get("extra_iterations", 0) for run in self.runs]))

    @property
    def log_perplexity(self) -> list[float]:
        """Test loss in nats of each run."""
        return [math.log(p) for p in self.final("test_perplexity")]


def make_row(policy: str, runs: Sequence[Run]) -> Row:
    """Puts the runs of one policy into a row, ordered by seed.

    Raises:
        InputError: If a run isn't finished, or if two have the same seed.
    """
    for run in runs:
        if run.summary is None:
            raise InputError(f"{run.folder} is not a finished run: it has no summary.json")
    runs = sorted(runs, key=lambda run: run.config["options"]["seed"])
    row = Row(policy, runs[0].config.get("protocol", NO_LEARNING), tuple(runs))
    if len(set(row.seeds)) != len(row.seeds):
        raise InputError(f"{policy}: two runs of the same seed among {row.seeds}")
    return row


def check_comparable(rows: Sequence[Row]) -> None:
    """Makes sure that all runs had the same text, tokenizer, model and iterations.

    Raises:
        InputError: If not, naming what differs.
    """
    same = ("tokenizer", "n_layer", "n_head", "n_embd", "block_size", "batch_size", "max_iters")
    first = rows[0].runs[0]
    for run in (run for row in rows for run in row.runs):
        pairs = {key: (run.config["env"][key], first.config["env"][key]) for key in same}
        pairs["corpus text"] = (run.config["corpus_sha256"], first.config["corpus_sha256"])
        for key, (its, expected) in pairs.items():
            if its != expected:
                raise InputError(
                    f"{run.folder} and {first.folder} can't be compared: {key} is {its!r} in one "
                    f"and {expected!r} in the other"
                )


@dataclass(frozen=True)
class Against:
    """How a policy did against another, on test loss in nats."""

    reference: str
    probability: Interval
    """That it has the lower perplexity, in a pair of runs."""
    difference: Interval
    """Paired by seed, negative where it is better."""
    seeds: int
    """That both policies have."""

    @property
    def verdict(self) -> str:
        """Says "better" or "worse" only where both intervals do."""
        p, d = self.probability, self.difference
        if p.low is None or p.high is None or d.low is None or d.high is None:
            return "one seed: nothing to say"
        if self.seeds < LEAST_SEEDS:
            return f"{self.seeds} seeds: too few to say"
        if p.low > 0.5 and d.high < 0:
            return "better"
        if p.high < 0.5 and d.low > 0:
            return "worse"
        return "no difference shown"


def against(row: Row, reference: Row) -> Against | None:
    """Compares two policies over the seeds that both have; None if they share none."""
    shared = sorted(set(row.seeds) & set(reference.seeds))
    if not shared:
        return None
    ours, theirs = (
        [r.log_perplexity[r.seeds.index(seed)] for seed in shared] for r in (row, reference)
    )
    return Against(
        reference.policy,
        probability_of_improvement(ours, theirs),
        paired_difference(ours, theirs),
        len(shared),
    )


def best_fixed(rows: Sequence[Row], row: Row) -> Row | None:
    """The fixed pattern with as many independent layers as `row` has on average, rounded.

    Where there are several, the best one on validation; None where there is none.
    """
    n = round(row.mean("n_independent"))
    same = [
        r
        for r in others_alike(rows, row)
        if r.program.startswith("fixed") and set(r.final("n_independent")) == {n}
    ]
    return min(same, key=lambda r: r.mean("val_loss"), default=None)


def null_model(rows: Sequence[Row], row: Row) -> Row | None:
    """The row of random tying that a row is held against; None where there is none."""
    return next((r for r in others_alike(rows, row) if r.program == NULL_MODEL), None)


def others_alike(rows: Sequence[Row], row: Row) -> list[Row]:
    """The other rows whose tied layers have gradients of the same kind as in `row`.

    These change the result of the same ties: a policy isn't held against one of another kind.
    """
    return [r for r in rows if r is not row and r.tie_grad == row.tie_grad]


def figures(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """One row of the table, plain values."""
    perplexity, bits = iqm_interval(row.final("test_perplexity")), row.mean("test_bits_per_byte")
    result: dict[str, Any] = {
        "policy": row.policy,
        "protocol": row.protocol,
        "seeds": len(row.runs),
        "test_perplexity": perplexity.value,
        "low": perplexity.low,
        "high": perplexity.high,
        "test_bits_per_byte": bits,
        "n_independent": row.mean("n_independent"),
        "trainable_params": row.mean("trainable_params"),
        "model_state_bytes": row.mean("model_state_bytes"),
        "seconds_per_iteration": row.seconds_per_iteration,
        "extra_iterations": row.extra_iterations,
    }
    references = {"random": null_model(rows, row), "best_fixed": best_fixed(rows, row)}
    for name, reference in references.items():
        compared = None if reference is None else against(row, reference)
        result |= {
            f"{name}": compared.reference if compared else None,
            f"{name}_probability": compared.probability.value if compared else None,
            f"{name}_probability_low": compared.probability.low if compared else None,
            f"{name}_probability_high": compared.probability.high if compared else None,
            f"{name}_verdict": compared.verdict if compared else None,
        }
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
    "against fixed of equal size",
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
    fixed = f"{f['best_fixed']}: {f['best_fixed_verdict']}" if f["best_fixed"] else ""
    return [
        f["policy"],
        f["protocol"],
        str(f["seeds"]),
        f"{four_digits(f['test_perplexity'])}{interval}",
        f"{f['test_bits_per_byte']:.3f}",
        f"{f['n_independent']:.1f}",
        f"{f['trainable_params']:,.0f}",
        f"{f['model_state_bytes'] / 1e6:.1f}",
        f"{f['seconds_per_iteration']:.4f}",
        f"{f['extra_iterations']:,.0f}" if f["extra_iterations"] else "0",
        probability,
        f["random_verdict"] or "",
        fixed,
    ]


def caption(rows: Sequence[Row]) -> str:
    """What all rows have in common, and the null model's expectation."""
    config = rows[0].runs[0].config
    env, n = config["env"], config["env"]["n_layer"]
    return (
        f"{n} layers, width {env['n_embd']}, context {env['block_size']}, corpus {env['corpus']}, "
        f"tokenizer {env['tokenizer']}, {env['max_iters']} iterations of "
        f"{env['batch_size']} sequences, device {config['device']}. A uniformly random policy "
        f"leaves {tie_vectors.expected_independent(n):.2f} independent layers on average. "
        "'better' and 'worse' stand only where 95 % intervals over at least four seeds say so."
    )


BY_IMPORTANCE = (0, 3, 5, 11, 12, 2, 1, 10, 6, 4, 9, 7, 8)
"""The columns of `HEADINGS`, in the order in which a terminal gives them its width."""


def terminal_table(table: Sequence[Mapping[str, Any]], width: int) -> Table:
    """The table for `rich.print`, without columns that hold nothing or have no room.

    Args:
        table: Of `figures`.
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
