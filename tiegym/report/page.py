"""A report: one HTML page about runs that needs nothing but a browser.

What it says of them is decided in `tiegym.analysis.groups`, how it looks in `report.html`. Jinja
escapes every text; no markup is put together here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tiegym.analysis.groups import (
    Group,
    differing,
    final,
    group_runs,
    program,
    seconds_per_iteration,
    seed,
    settings,
    state,
)
from tiegym.analysis.intervals import interquartile_mean
from tiegym.analysis.rows import SHALLOW, conditions
from tiegym.atomic_write import write_bytes
from tiegym.data.tasks.names import METRIC_NAMES
from tiegym.pictures.colors import ON_DARK, PALETTE
from tiegym.pictures.kinds import looks
from tiegym.report.checked import checked
from tiegym.report.figures import curves, film, trade_off
from tiegym.runs.folder import Run
from tiegym.runs.json_files import flat
from tiegym.runs.printable import printable

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'"
)
"""The page's Content-Security-Policy: it loads nothing, and runs no script but its own."""

NOTHING = "\u2013"
"""Stands where there is no figure."""


def write_report(runs: Sequence[Run], path: str | Path, skipped: Sequence[str] = ()) -> None:
    """Writes a page about runs, atomically.

    Args:
        runs: At least one.
        path: Of the page; its folder must be there.
        skipped: What the page says of runs that are not on it, a sentence for each.

    Raises:
        OSError: If the page can't be written.
    """
    kept = [checked(run) for run in runs]
    runs, damaged = [run for run, _ in kept], {id(run): count for run, count in kept}
    groups = group_runs(runs)
    shown_as = looks([group.runs[0].config for group in groups])
    environment = Environment(
        loader=PackageLoader("tiegym.report", "."),
        autoescape=True,
        finalize=_seen,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plots = (
        curves(groups, "perplexity", "validation perplexity", log=True, cut=True),
        curves(groups, "n_independent", "independent layers", log=False, cut=False),
        trade_off(groups),
    )
    for mark in (mark for plot in plots if plot for mark in (*plot["lines"], *plot["dots"])):
        mark["color"] = shown_as[mark["group"]].place
    lines = [line for plot in plots if plot for line in plot["lines"]]
    for number, line in enumerate(lines):
        line["number"] = number
    cells = [
        {
            **_run_cells(place, group.label, run),
            "color": shown_as[place].place,
            "damaged": damaged[id(run)],
        }
        for place, group in enumerate(groups)
        for run in group.runs
    ]
    films = [run["film"] for run in cells if run["film"]]
    for number, film_shown in enumerate(films):
        film_shown["number"] = number
    script = files("tiegym.report").joinpath("report.js").read_text()
    page = environment.get_template("report.html").render(
        light=PALETTE,
        dark=ON_DARK,
        caption=_caption(_of_the_comparisons_depth([group.runs[0] for group in groups])),
        mixed=_mixed(runs),
        groups=[
            {**_group_cells(group), "color": look.place, "kind": look.kind}
            for group, look in zip(groups, shown_as, strict=True)
        ],
        plots=[plot for plot in plots if plot],
        runs=cells,
        skipped=skipped,
        data={
            "lines": [line["points"] for line in lines],
            "films": [{key: f[key] for key in ("ties", "iterations", "layers")} for f in films],
        },
        script=script,
        policy=POLICY.format(script=_digest(script)),
        **_settings(groups),
        origin=_origin(runs),
    )
    write_bytes(path, page.encode(errors="backslashreplace"))  # names of files that aren't UTF-8


def _seen(value: Any) -> Any:
    """A text without characters that move a cursor; what is markup already stays as it is."""
    return printable(value) if type(value) is str else value


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _mixed(runs: Sequence[Run]) -> list[str]:
    """What isn't the same, though it must be; as `tiegym.analysis.rows.check_comparable`."""
    same_depth = differing([conditions(run) for run in _of_the_comparisons_depth(runs)])
    every = differing([conditions(run) for run in runs])
    return [name for name in every if name != "n_layer" or name in same_depth]


def _of_the_comparisons_depth(runs: Sequence[Run]) -> Sequence[Run]:
    """All but shallower transformers, which are compared with deeper ones; all if no other is."""
    return [run for run in runs if not program(run).startswith(SHALLOW)] or runs


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
    means = {name: _mean(group.final(f"test_{name}")) for name in METRIC_NAMES}
    notes = [f"{states.count(s)} {s}" for s in ("diverged", "cut off") if s in states]
    return {
        "label": group.label,
        "seeds": ", ".join([str(len(group.finished)), *notes]),
        "perplexity": _text(interquartile_mean(perplexity) if perplexity else None, ".4g"),
        "range": f"{min(perplexity):.4g} to {max(perplexity):.4g}" if perplexity else NOTHING,
        "mean": _text(_mean(perplexity), ".4g"),
        "bits_per_byte": _text(_mean(group.final("test_bits_per_byte")), ".3f"),
        "metrics": ", ".join(f"{n} {mean:.3f}" for n, mean in means.items() if mean is not None),
        "n_independent": _text(_mean(group.final("n_independent")), ".1f"),
        "parameters": _text(_mean(group.final("trainable_params")), ",.0f"),
        "megabytes": _text(None if size is None else size / 1e6, ".1f"),
        "seconds": _text(seconds_per_iteration(group.finished), ".4f"),
    }


def _run_cells(group: int, label: str, run: Run) -> dict[str, Any]:
    figures = final(run)
    ended = state(run)
    if ended == "cut off":
        budget = run.config["env"].get("max_iters", NOTHING)
        ended += f" after {figures.get('iteration') or 0} of {budget} iterations, or still going"
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
