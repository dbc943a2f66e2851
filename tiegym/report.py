"""A report: one HTML page about runs that needs nothing but a browser.

What it says of them is decided in `tiegym.report_runs`, how it looks in `report.html`. Jinja
escapes every text; no markup is put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tiegym.json_files import write_bytes
from tiegym.report_runs import (
    Group,
    final,
    group_runs,
    interquartile_mean,
    program,
    seed,
    state,
)
from tiegym.run_folders import Run

NOTHING = "\u2013"
"""Stands where there is no figure."""


def write_report(runs: Sequence[Run], path: str | Path) -> None:
    """Writes a page about runs, atomically.

    Args:
        runs: At least one.
        path: Of the page; its folder must be there.

    Raises:
        OSError: If the page can't be written.
    """
    groups = group_runs(runs)
    environment = Environment(
        loader=PackageLoader("tiegym", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        groups=[_group_cells(group) for group in groups],
        runs=[_run_cells(number, run) for number, group in enumerate(groups) for run in group.runs],
    )
    write_bytes(path, page.encode())


def _text(value: Any, form: str = "") -> str:
    return NOTHING if value is None else format(value, form)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _group_cells(group: Group) -> dict[str, Any]:
    perplexity = group.final("test_perplexity")
    size = _mean(group.final("model_state_bytes"))
    states = [state(run) for run in group.runs]
    notes = [f"{states.count(s)} {s}" for s in ("diverged", "cut off") if s in states]
    return {
        "label": group.label,
        "seeds": ", ".join([str(len(group.finished)), *notes]),
        "perplexity": _text(interquartile_mean(perplexity) if perplexity else None, ".4g"),
        "range": f"{min(perplexity):.4g} to {max(perplexity):.4g}" if perplexity else NOTHING,
        "bits_per_byte": _text(_mean(group.final("test_bits_per_byte")), ".3f"),
        "n_independent": _text(_mean(group.final("n_independent")), ".1f"),
        "parameters": _text(_mean(group.final("trainable_params")), ",.0f"),
        "megabytes": _text(None if size is None else size / 1e6, ".1f"),
        "seconds": _text(_mean(group.final("seconds_per_iteration")), ".4f"),
    }


def _run_cells(group: int, run: Run) -> dict[str, Any]:
    figures = final(run)
    ended = state(run)
    if ended == "cut off":
        ended += f" after {figures.get('iteration', 0)} of {run.config['env']['max_iters']}"
        ended += " iterations, or still going"
    return {
        "group": group,
        "folder": str(run.folder),
        "program": program(run),
        "seed": _text(seed(run), "d"),
        "state": ended,
        "test": _text(figures.get("test_perplexity"), ".4g"),
        "validation": _text(figures.get("perplexity"), ".4g"),
        "n_independent": _text(figures.get("n_independent"), "d"),
        "created": _text(run.config.get("created")),
    }
