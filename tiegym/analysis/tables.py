"""From rows to a table: plain values, one line for each policy, and what is to be said of them.

How it is written and printed is in `tiegym.analysis.forms`, what rows are in
`tiegym.analysis.rows`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tiegym import ties as tie_vectors
from tiegym.analysis.intervals import holm, iqm_interval
from tiegym.analysis.references import (
    best_fixed,
    best_shallow,
    compare_with,
    null_model,
    random_fixed,
)
from tiegym.analysis.rows import Row, main_row, training_differences
from tiegym.analysis.verdicts import LEAST_SEEDS

REFERENCES = {
    "null": null_model,
    "best_fixed": best_fixed,
    "random_fixed": random_fixed,
    "shallow": best_shallow,
}
"""What each row is compared with, by the name with which the columns about it begin."""

ABOUT_A_REFERENCE = (
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
        "test_bits_per_byte": row.bits_per_byte,
        **{f"test_{name}": row.metrics.get(name) for name in main_row(rows).metrics},
        "n_layer": row.env["n_layer"],
        "n_independent": row.mean("n_independent"),
        "trainable_params": row.mean("trainable_params"),
        "model_state_bytes": row.mean("model_state_bytes"),
        "stored_bytes": row.mean_if_all_have("stored_bytes"),
        "seconds_per_iteration": row.seconds_per_iteration,
        "extra_iterations": row.extra_iterations,
    }
    for name, find in REFERENCES.items():
        values: Sequence[Any] = [None] * len(ABOUT_A_REFERENCE)
        if (reference := find(rows, row)) is not None:
            c = compare_with(row, reference)
            values = reference.policy, c.seeds, c.verdict, *c.probability, *c.difference, None
        columns = [f"{name}{end}" for end in ABOUT_A_REFERENCE]
        result |= dict(zip(columns, values, strict=True))
    return result


def setting(rows: Sequence[Row], table: Sequence[Mapping[str, Any]]) -> str:
    """What all rows have in common or differ in, and how many tests the table makes.

    Args:
        rows: The policies.
        table: What `make_table` makes of them.
    """
    sentences = [common(rows), *_differences(rows), _chance(main_row(rows).env)]
    kinds = {"null": "null models", "best_fixed": "patterns"}
    tests = {name: sum(f[f"{name}_p_holm"] is not None for f in table) for name in kinds}
    if any(tests.values()):
        counts = [f"{tests[name]} with {kind}" for name, kind in kinds.items() if tests[name]]
        sentences.append(f"Tests: {' and '.join(counts)}.")
    return " ".join(sentences)


def common(rows: Sequence[Row]) -> str:
    """The model, text, budget and seeds that all rows have in common, in a sentence."""
    config = main_row(rows).runs[0].config
    env, n = config["env"], config["env"]["n_layer"]
    model = env.get("model", "gpt")
    what = "" if model == "gpt" else f"Model {model}, task {env.get('task')}: "
    return (
        f"{what}{n} layers, width {env.get('n_embd')}, context {env.get('block_size')}, corpus "
        f"{env.get('corpus')}, tokenizer {env.get('tokenizer')}, {env['max_iters']} iterations of "
        f"{env.get('batch_size')} sequences, device {config.get('device')}; "
        f"{_seeds(rows)}."
    )


def _chance(env: Mapping[str, Any]) -> str:
    """How many independent layers, or parts of layers, chance alone leaves."""
    expected = tie_vectors.expected_independent(env["n_layer"], env.get("choices") == "tie+freeze")
    what = "layers"
    if env.get("tie_parts") == "attention+mlp":
        expected, what = 2 * expected, "parts of layers"
    return f"A uniformly random policy leaves {expected:.2f} independent {what} on average."


READING = (
    "IQM is the interquartile mean over seeds; its interval, 95 % by name, covers 87 to 90 % with "
    "four or five seeds. 'better' and 'worse' stand where Student's 95 % interval of the "
    f"difference in test loss says so, paired by seed, over at least {LEAST_SEEDS} seeds. Each is "
    "a test of its own, and some of many say so by chance; a star marks those that stand with "
    "Holm's correction for their column. The null model is random tying, over the raw actions for "
    "an agent that draws from these, or a kept draw of the same size for one that chooses once. A "
    "pattern of the same size has the trainable parameters of "
    "the policy, to the nearest layer; the best one on validation is taken, and the test corrected "
    "for how many there were. All other figures are in comparison.csv."
)
"""How to read a table: the same for all of them."""


def _seeds(rows: Sequence[Row]) -> str:
    counts = [len(row.runs) for row in rows]
    least, most = min(counts), max(counts)
    text = str(most) if least == most else f"{least} to {most}"
    diverged = [f"{row.diverged} of {row.policy} diverged" for row in rows if row.diverged]
    return ", ".join([f"{text} seed{'s' * (most > 1)}", *diverged])


def _differences(rows: Sequence[Row]) -> list[str]:
    """A sentence for each training setting that isn't the same for all policies."""
    sentences = []
    for key, policies in training_differences(rows).items():
        usual, *others = policies
        text = "; ".join(f"{value} for {', '.join(policies[value])}" for value in others)
        sentences.append(f"{key} is {usual}, but {text}.")
    return sentences
