"""Runs as a page can show them: whatever is in their rows, a number is one, and ties are a forest.

Files of run folders are checked where they are read. But anybody may make a `Run`, and what stands
on a page runs in a browser: so nothing passes that isn't what it is shown as.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tiegym.data.tasks.names import METRIC_NAMES
from tiegym.runs.folder import Row, Run
from tiegym.ties import is_tie_vector

COUNTS = ("episode", "iteration", "n_independent", "trainable_params", "model_state_bytes", "seed")
FIGURES = (
    *("perplexity", "test_perplexity", "test_bits_per_byte", "seconds_per_iteration"),
    *("train_loss", "val_loss", "bits_per_byte"),
    *METRIC_NAMES,
    *(f"test_{name}" for name in METRIC_NAMES),
)


def checked(run: Run) -> tuple[Run, int]:
    """A run without what can't be shown.

    Returns:
        The run, in which None stands for what is no finite number, ties that are no forest are
        left out, and so are rows without an iteration or an episode; and how many rows lost
        something.
    """
    rows, changed = [], 0
    for row in run.steps:
        clean = _row(row) if isinstance(row, Mapping) else {}
        changed += clean != row
        if clean.get("iteration") is not None and clean.get("episode") is not None:
            rows.append(clean)
    summary = run.summary
    if summary is not None:
        final = summary.get("final")
        summary = {
            "finished": summary.get("finished") is True,
            "final": _row(final) if isinstance(final, Mapping) else {},
        }
    return dataclasses.replace(
        run, config=_config(run.config), steps=rows, summary=summary
    ), changed


def _config(config: Mapping[str, Any]) -> dict[str, Any]:
    shown = {**config}
    for name in ("env", "options"):
        value = shown.get(name)
        shown[name] = dict(value) if isinstance(value, Mapping) else {}
    if "seed" in shown["options"] and count(shown["options"]["seed"]) is None:
        del shown["options"]["seed"]
    return shown


def _row(row: Mapping[str, Any]) -> Row:
    clean = dict(row)
    for name in COUNTS:
        if name in clean:
            clean[name] = count(clean[name])
    for name in FIGURES:
        if name in clean:
            clean[name] = number(clean[name])
    if "ties" in clean and not is_tie_vector(clean["ties"]):
        del clean["ties"]
    return clean


def number(value: Any) -> float | int | None:
    """A finite number that a plot has room for; None for anything else.

    Examples:
        >>> number(2.5), number(float("nan")), number("2.5"), number(True), number(10**400)
        (2.5, None, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e300 and math.isfinite(value) else None


def count(value: Any) -> int | None:
    """An integer from 0 on, of a size that a browser's numbers hold; None for anything else."""
    found = number(value)
    return found if isinstance(found, int) and 0 <= found < 2**53 else None
