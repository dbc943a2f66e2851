"""A report: one HTML page about runs that needs nothing but a browser.

What it says of them is decided in `tiegym.analysis.groups`, how it looks in `report.html`. Jinja
escapes every text; no markup is put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tiegym.analysis.groups import (
    Group,
    differing,
    final,
    group_runs,
    seconds_per_iteration,
    seed,
    settings,
    state,
)
from tiegym.analysis.intervals import interquartile_mean
from tiegym.atomic_write import write_bytes
from tiegym.pictures.colors import ON_DARK, PALETTE
from tiegym.report.figures import curves, film, trade_off
from tiegym.runs.folder import Run
from tiegym.runs.json_files import flat

_TASK = ("tokenizer", "n_layer", "n_head", "n_embd", "block_size", "batch_size", "max_iters")

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
        loader=PackageLoader("tiegym.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = (
        curves(groups, "perplexity", "validation perplexity", log=True, cut=True),
        curves(groups, "n_independent", "independent layers", log=False, cut=False),
        trade_off(groups),
    )
    page = environment.get_template("report.html").render(
        light=PALETTE,
        dark=ON_DARK,
        caption=_caption([group.runs[0] for group in groups]),
        mixed=differing([_task(run) for run in runs]),
        groups=[_group_cells(group) for group in groups],
        plots=[plot for plot in plots if plot],
        runs=[
            _run_cells(number, group.label, run)
            for number, group in enumerate(groups)
            for run in group.runs
        ],
        **_settings(groups),
        origin=_origin(runs),
    )
    write_bytes(path, page.encode())


def _task(run: Run) -> dict[str, Any]:
    """What must be the same for figures to compare."""
    return {name: run.config["env"].get(name) for name in _TASK} | {
        "corpus_sha256": run.config.get("corpus_sha256")
    }


def _caption(runs: Sequence[Run]) -> str:
    """What all runs have in common, in words."""
    same = ("n_layer", "n_embd", "block_size", "corpus", "tokenizer", "batch_size", "max_iters")
    env = [run.config["env"] for run in runs]
    common = set(same) - set(differing(env))
    return ", ".join(f"{name} {env[0][name]}" for name in same if name in common & env[0].keys())


def _settings(groups: Sequence[Group]) -> dict[str, Any]:
    """`shared` settings, and those `different` between groups with the value of each."""
    tables = [settings(group.runs[0]) for group in groups]
    different = differing(tables)
    return {
        "shared": [(k, _shown(v)) for k, v in tables[0].items() if k not in different],
        "different": [(name, [_shown(t.get(name, "")) for t in tables]) for name in different],
    }


def _origin(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Versions, revisions and machines, each with all the values that runs have."""
    names = ("versions", "git", "device", "device_name", "threads")
    tables = [flat({n: run.config[n] for n in names if n in run.config}) for run in runs]
    keys = dict.fromkeys(key for table in tables for key in table)
    return [
        (key, " | ".join(dict.fromkeys(_shown(table.get(key)) for table in tables))) for key in keys
    ]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return NOTHING if value is None else str(value)


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
        "mean": _text(_mean(perplexity), ".4g"),
        "bits_per_byte": _text(_mean(group.final("test_bits_per_byte")), ".3f"),
        "n_independent": _text(_mean(group.final("n_independent")), ".1f"),
        "parameters": _text(_mean(group.final("trainable_params")), ",.0f"),
        "megabytes": _text(None if size is None else size / 1e6, ".1f"),
        "seconds": _text(seconds_per_iteration(group.finished), ".4f"),
    }


def _run_cells(group: int, label: str, run: Run) -> dict[str, Any]:
    figures = final(run)
    ended = state(run)
    if ended == "cut off":
        ended += f" after {figures.get('iteration', 0)} of {run.config['env']['max_iters']}"
        ended += " iterations, or still going"
    return {
        "group": group,
        "folder": str(run.folder),
        "label": label,
        "film": film(run),
        "seed": _text(seed(run), "d"),
        "state": ended,
        "test": _text(figures.get("test_perplexity"), ".4g"),
        "validation": _text(figures.get("perplexity"), ".4g"),
        "n_independent": _text(figures.get("n_independent"), "d"),
        "created": _text(run.config.get("created")),
    }
