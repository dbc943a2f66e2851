"""The study `related`: the neighbours of layer tying at equal iterations, and what each takes.

What was reimplemented of each is in docs/related.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from baselines.compare import run_policies
from baselines.continued import Continued
from baselines.policies import parse_policy
from baselines.running_options import RunningOptions
from tiegym.analysis.comparison import Judged
from tiegym.analysis.forms import four_digits
from tiegym.analysis.markdown import markdown_table
from tiegym.analysis.rows import Row, trained_with
from tiegym.analysis.tables import common
from tiegym.analysis.verdicts import LEAST_SEEDS, compare_losses
from tiegym.atomic_write import write_bytes
from tiegym.config import TieConfig
from tiegym.pictures.comparison import plot_pareto
from tiegym.runs.input_errors import InputError

SEEDS = 10
LEARNT_BEFORE = "nested:4"
"""The text of models that are trained before the run: the study's own with one look-up less."""

SMALLER = (
    "--env.quantize int4",
    "--env.factorize tt:8",
    "--env.quantize int4 --env.factorize tt:8",
)
"""Each with all layers independent, two that are each used in a row, and one."""

POLICIES = (
    *("independent", "sequence:2", "cycle:2", "sandwich", "tied", "shallow:1", "shallow:2"),
    *("random", "random-fixed", "qlearning", "dqn --pretrain-runs 4"),
    *(f"{ties} {how}" for ties in ("independent", "sequence:2", "tied") for how in SMALLER),
    *(
        "tied --env.private norms",
        "tied --env.private lora:4",
        "tied --env.private lora:4 --env.quantize int4",
    ),
    *("recurrent-stacking --at 0.25", "layer-consistency", "admin --pattern tied"),
    *("gradient-split", "progressive-freeze"),
)

HEADINGS = (
    *("policy", "test perplexity, IQM [95 % CI]", "trained parameters", "bytes on disk"),
    *(
        "bytes of model state",
        "peak bytes",
        "time of an iteration / independent",
        "extra iterations",
        "below the front",
    ),
)


def continued(env: TieConfig, place: Path) -> Iterator[Continued]:
    """What goes on from a trained model of two layers, each used in a row.

    Args:
        env: The study's environment.
        place: Where its runs are kept.
    """
    before = dataclasses.replace(env, corpus=LEARNT_BEFORE)
    learnt = parse_policy("sequence:2 --export", before)
    for label, command in (
        ("all of it", "sequence:2 --env.init-std 0.02 --env.initial-weights"),
        ("ladder", "ladder --reduction 4 --run"),
        ("norms-only", "norms-only --run"),
    ):
        yield Continued(f"{label}, sequence:2 of {LEARNT_BEFORE}", command, learnt, place)
    trained = parse_policy("sequence:2 --export", env)
    yield Continued("elastic-depth, sequence:2", "elastic-depth --run", trained, place)


def run(env: TieConfig, seeds: Sequence[int], options: RunningOptions) -> list[Row]:
    """Runs what is missing; returns all rows.

    Raises:
        InputError: See `baselines.running.run_pairs`; or if a run is damaged.
        RunsFailed: If a run fails.
    """
    every = list(continued(env, options.runs_dir))
    sources = {each.source.folder(each.place, 0): each.source for each in every}
    run_policies(list(sources.values()), seeds, options)  # first: a policy below may be one of them
    rows = run_policies([parse_policy(text, env) for text in POLICIES], seeds, options)
    return rows + [each.run(env, seeds, options) for each in every]


def write(judged: Judged, folder: Path) -> str:
    """Writes related.md and stored.png into a folder; returns the table, in Markdown.

    Older runs don't say what their models take on disk, and aren't in the picture.

    Raises:
        InputError: If the folder can't be written.
    """
    (base,) = (f["seconds_per_iteration"] for f in judged.table if f["policy"] == "independent")
    lines = [
        (*_cells(f, _peak(row), base), below_front(row, judged.rows))
        for row, f in zip(judged.rows, judged.table, strict=True)
    ]
    caption = f"{common(judged.rows)} What else a policy has is in its name."
    text = f"{caption}\n\n{markdown_table(HEADINGS, lines)}"
    try:
        write_bytes(folder / "related.md", text.encode())
        if sized := [r for r in judged.rows if r.mean_if_all_have("stored_bytes") is not None]:
            plot_pareto(sized, folder / "stored.png", size="stored_bytes")
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error}") from error
    return text


def below_front(row: Row, rows: Sequence[Row]) -> str:
    """Whether a method's loss is lower than that of every pattern that takes no more bytes.

    Untied transformers of fewer layers count as patterns; compressed and private ones don't.

    Returns:
        yes or no, by Student's 95 % intervals of differences paired by seed; "smaller" where every
        pattern takes more bytes; nothing for patterns, and where bytes or seeds don't say.
    """
    size = row.mean_if_all_have("stored_bytes")
    front = [(r, r.mean_if_all_have("stored_bytes")) for r in rows if _is_plain(r)]
    if _is_plain(row) or size is None:
        return ""
    rivals = [other for other, its in front if its is not None and its <= size]
    if not rivals:
        return "smaller"
    found = [compare_losses(row.losses, rival.losses) for rival in rivals]
    if min(each.seeds for each in found) < LEAST_SEEDS:
        return ""
    return "yes" if all(each.verdict == "better" for each in found) else "no"


def _is_plain(row: Row) -> bool:
    plain = {"private": "none", "quantize": None, "factorize": None, "initial_weights": None}
    alike = all(trained_with(row, key) == value for key, value in plain.items())
    return alike and row.program.startswith(("fixed-", "shallow-"))


def _cells(f: Mapping[str, Any], peak: int | None, base: float | None) -> list[str]:
    seconds = f["seconds_per_iteration"]
    return [
        f["policy"],
        f"{four_digits(f['test_perplexity'])} [{four_digits(f['low'])}, {four_digits(f['high'])}]"
        if f["low"] is not None
        else four_digits(f["test_perplexity"]),
        f"{f['trainable_params']:,.0f}",
        "" if f["stored_bytes"] is None else f"{f['stored_bytes']:,.0f}",
        f"{f['model_state_bytes']:,.0f}",
        "" if peak is None else f"{peak:,}",
        "" if None in (seconds, base) else f"{seconds / base:.2f}",
        f"{f['extra_iterations']:,.0f}",
    ]


def _peak(row: Row) -> int | None:
    """The largest peak of a GPU's allocator; a process's own peak is not of one run."""
    peaks = [
        step["peak_allocated_bytes"]
        for run in row.runs
        for step in run.steps
        if "peak_allocated_bytes" in step
    ]
    return max(peaks, default=None)
