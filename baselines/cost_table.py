"""The tables and the picture of what changing ties costs, and their files.

What they are made of is in `baselines.cost_of_changing`.
"""

from __future__ import annotations

from pathlib import Path

from baselines.cost_of_changing import (
    CHANGING,
    CONTRASTS,
    FIXED,
    PLAIN,
    VARIANTS,
    Contrast,
    Rows,
    Variant,
    contrasts,
    cost,
    each_run,
)
from tiegym.analysis.forms import write_csv
from tiegym.analysis.intervals import Difference, holm, paired_difference
from tiegym.analysis.markdown import markdown_table
from tiegym.atomic_write import write_bytes
from tiegym.pictures.forest import Estimate, plot_forest
from tiegym.runs.input_errors import InputError

NAMES = {"random": "random tying", "qlearning": "the paper's agent"}
COLUMNS = (*CHANGING, *(f"kept {name}" for name in CHANGING), *FIXED)
"""The columns of the table of losses."""


def write(rows: Rows, folder: Path) -> str:
    """Writes runs.csv, comparison.md and costs.png into a folder; returns the tables, in Markdown.

    Raises:
        InputError: If the folder can't be written.
    """
    text = tables(rows)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(each_run(rows), folder / "runs.csv")
        write_bytes(folder / "comparison.md", text.encode())
        panels = {
            NAMES[policy]: [
                Estimate(str(v), *_bounds(cost(rows, v, policy)), _starred(rows, v, policy))
                for v in VARIANTS
            ]
            for policy in CHANGING
        }
        plot_forest(panels, "cost of changing ties, nats", folder / "costs.png")
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error}") from error
    return text


def tables(rows: Rows) -> str:
    """All tables, in Markdown: costs of each policy that changes, soft changes, and losses."""
    seeds = len(rows[PLAIN, "random"].runs)
    runs = {line["folder"]: line["diverged"] for line in each_run(rows)}
    caption = (
        f"{seeds} seeds, {len(runs)} runs, {sum(runs.values())} of them diverged. Losses are test "
        "losses in nats, means over seeds; intervals are Student's, 95 %, of differences paired by "
        f"seed. A star (in the picture a full dot) stands by a p-value below 5 % with Holm's "
        f"correction: for the {len(CONTRASTS)} contrasts of costs of a policy (each variant with "
        "plain, and soft with hard changes), and in the table of losses for its column.\n"
    )
    found = [*(_costs(rows, policy) for policy in CHANGING), _soft(rows), _losses(rows)]
    return "\n".join([caption, *found])


def _costs(rows: Rows, policy: str) -> str:
    headings = (
        *(NAMES[policy], "width", "parameters", "changing", "kept", "cost of changing"),
        "minus plain's",
    )
    lines = []
    against_plain = {c.variant: c for c in contrasts(rows, policy) if c.against == PLAIN}
    for variant in VARIANTS:
        row, kept = rows[variant, policy], rows[variant, f"kept {policy}"]
        losses = [sum(r.losses.values()) / len(r.losses) for r in (row, kept)]
        less = _shown(against_plain[variant]) if variant in against_plain else ""
        cells = (variant, row.env["n_embd"], f"{row.mean('trainable_params'):,.0f}")
        means = (f"{losses[0]:.4f}", f"{losses[1]:.4f}")
        lines.append((*cells, *means, _interval(cost(rows, variant, policy)), less))
    return markdown_table(headings, lines)


def _soft(rows: Rows) -> str:
    headings = ("cost with soft changes minus that with hard ones", *NAMES.values())
    each = [[c for c in contrasts(rows, policy) if c.against != PLAIN] for policy in CHANGING]
    lines = [(found[0].variant, *map(_shown, found)) for found in zip(*each, strict=True)]
    return markdown_table(headings, lines)


def _losses(rows: Rows) -> str:
    lines = zip(VARIANTS, *(_column(rows, name) for name in COLUMNS), strict=True)
    return markdown_table(("loss (minus plain's)", *COLUMNS), lines)


def _column(rows: Rows, policy: str) -> list[str]:
    """The entries of a policy in all variants; what is the same in another one is left out."""
    plain = rows[PLAIN, policy].losses
    own = [v for v in VARIANTS if (v, policy) in rows and not _repeated(v, policy)]
    differences = {
        v: paired_difference([rows[v, policy].losses[seed] for seed in plain], [*plain.values()])
        for v in own
        if v != PLAIN
    }
    p_values = holm([1.0 if d.p_value is None else d.p_value for d in differences.values()])
    starred = {v for v, p in zip(differences, p_values, strict=True) if p < 0.05}
    entries = []
    for variant in VARIANTS:
        if variant not in own:
            entries.append("")
            continue
        losses = rows[variant, policy].losses.values()
        mean = f"{sum(losses) / len(losses):.4f}"
        star = "*" * (variant in starred)
        less = f" ({differences[variant].value:+.4f}{star})" if variant in differences else ""
        entries.append(mean + less)
    return entries


def _repeated(variant: Variant, policy: str) -> bool:
    """Whether its runs are those of hard changes: random tying's kept ties are the same."""
    return policy == "kept random" and variant != variant.hard


def _starred(rows: Rows, variant: Variant, policy: str) -> bool:
    found = [c for c in contrasts(rows, policy) if c.variant == variant and c.against == PLAIN]
    return any(c.p_holm < 0.05 for c in found)


def _bounds(difference: Difference) -> tuple[float, float, float]:
    value, low, high, _ = difference
    return value, value if low is None else low, value if high is None else high


def _interval(difference: Difference) -> str:
    value, low, high = _bounds(difference)
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"


def _shown(contrast: Contrast) -> str:
    return _interval(contrast.difference) + "*" * (contrast.p_holm < 0.05)
