"""Whether the files of a run folder are what a run writes: types, ranges, checksums.

Anybody may have made a folder, and disks flip bits. What has passed here can be counted on by
whatever shows or compares runs.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiegym.config import default_arguments
from tiegym.config_checks import MOST
from tiegym.data.tasks.names import METRIC_NAMES
from tiegym.runs.input_errors import DamagedFile
from tiegym.ties import is_tie_vector

COUNTS = {
    *("episode", "step", "steps", "iteration", "tokens", "n_independent", "trainable_params"),
    *("model_state_bytes", "stored_bytes", "extra_iterations"),
}
"""Entries that are integers, 0 or more."""

NUMBERS = {
    *("reward", "return", "perplexity", "bits_per_byte", "train_loss", "val_loss"),
    *("test_perplexity", "test_bits_per_byte", "seconds", "seconds_per_iteration"),
    *("seconds_training", "seconds_evaluation", "peak_process_bytes", "peak_device_bytes"),
    *METRIC_NAMES,
    *(f"test_{name}" for name in METRIC_NAMES),
}
"""Entries that are numbers, or null where there was none, or none that is finite."""

PERPLEXITIES = {"perplexity", "test_perplexity"}
"""Those of them that are positive: exp(loss), which is shown on a logarithmic axis."""

LARGEST = 1e300
"""Of a perplexity: an environment reports exp(80) at most, and pictures have margins."""

TRUTHS = {"terminated", "truncated", "diverged", "finished"}
"""Entries that are true or false."""

CHECKSUMS = "sha256"
"""Entry of summary.json: the checksums of itself and of the rows that it is about."""


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Checks the entries of a `config.json` that decide something.

    Raises:
        DamagedFile: If one has the wrong type, naming the file.
    """
    kinds: dict[str, type | tuple[type, ...]] = {
        "program": str,
        "module": str,
        "protocol": str,
        "options": (dict, type(None)),
        "env": dict,
        "versions": dict,
        "corpus_sha256": (str, type(None)),
        "tokenizer_sha256": (str, type(None)),
        "weights_sha256": (str, type(None)),
        "git": (dict, type(None)),
    }
    for name, kind in kinds.items():
        if name in config and not isinstance(config[name], kind):
            raise _wrong(path, name, config[name], "text" if kind is str else "an object")
    for name in ("threads", "ranks"):
        value = config.get(name, 1)
        if not _is_count(value) or not 1 <= value <= 2**16:
            raise _wrong(path, name, value, f"a number of {name}")
    seed: Any = (config.get("options") or {}).get("seed")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or seed < 0):
        raise _wrong(path, "options.seed", seed, "an integer, 0 or more")
    _check_env(path, config.get("env", {}))


def _check_env(path: Path, env: Mapping[str, Any]) -> None:
    """Checks the arguments of the environment that are there: versions know more and fewer."""
    for name in default_arguments():
        value: Any = env.get(name)
        where = f"env.{name}"
        if name in ("n_layer", "max_iters"):
            if name in env and not (_is_count(value) and 1 <= value <= MOST):
                raise _wrong(path, where, value, f"an integer from 1 to {MOST}")
        elif isinstance(value, list):
            if name != "initial_ties" or not all(map(_is_count, value)):
                raise _wrong(path, where, value, "a plain value")
        elif not (value is None or isinstance(value, str | bool) or is_number(value)):
            raise _wrong(path, where, value, "text, a finite number, true, false or null")


def check_figures(where: Path | str, figures: Mapping[str, Any]) -> None:
    """Checks the entries of a row, or of an episode in a summary, that a run writes itself.

    Args:
        where: The file, and the line of it, for the error.
        figures: The row; entries of other names may be anything.

    Raises:
        DamagedFile: If one has the wrong type or is out of range.
    """
    for name, value in figures.items():
        if name in COUNTS:
            if not _is_count(value):
                raise _wrong(where, name, value, "an integer, 0 or more")
        elif name in NUMBERS:
            if value is not None and not is_number(value):
                raise _wrong(where, name, value, "a finite number, or null")
            if name in PERPLEXITIES and value is not None and not 0 < value <= LARGEST:
                raise _wrong(where, name, value, f"above 0, at most {LARGEST:g}, or null")
        elif name in TRUTHS:
            if not isinstance(value, bool):
                raise _wrong(where, name, value, "true or false")
        elif name == "seed":
            if value is not None and not (_is_count(value) or (type(value) is int and value >= 0)):
                raise _wrong(where, name, value, "an integer, 0 or more, or null")
        elif name == "ties" and not (value == [] or is_tie_vector(value)):
            raise _wrong(where, name, value, "a tie vector: 0 <= ties[i] <= i for each layer i")


def check_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Checks a `summary.json` by itself: its types, and its own checksum if it has one.

    Raises:
        DamagedFile: If something isn't as it must be.
    """
    checksums = summary.get(CHECKSUMS)
    if checksums is not None and (
        not isinstance(checksums, dict) or checksums.get("summary") != own_checksum(summary)
    ):
        raise DamagedFile(
            f"{path} is damaged: its content doesn't match its checksum. The rows in steps.jsonl "
            "hold what the run measured"
        )
    check_figures(path, summary)
    for name in ("finished", "final"):
        if name not in summary:
            raise DamagedFile(f"{path} is damaged: it has no {name}")
    final, episodes = summary["final"], summary.get("episodes", [])
    if not (final is None or isinstance(final, dict)) or not isinstance(episodes, list):
        raise DamagedFile(f"{path} is damaged: final must be an episode, and episodes a list")
    for episode in (*episodes, *([final] if final is not None else [])):
        if not isinstance(episode, dict):
            raise DamagedFile(f"{path} is damaged: it has an episode {episode!r:.80}")
        check_figures(path, episode)


def check_together(
    folder: Path, summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], lines: list[bytes]
) -> None:
    """Checks a summary against the rows that it is about.

    Args:
        folder: Of the run.
        summary: Checked by itself.
        rows: All rows there are; there may be more than it is about.
        lines: The same rows as they stand in the file.

    Raises:
        DamagedFile: If they disagree.
    """
    checksums = summary.get(CHECKSUMS)
    if checksums is not None:
        count = summary.get("steps", 0)
        if len(lines) < count:
            raise DamagedFile(
                f"{folder / 'steps.jsonl'} is damaged: it has {len(lines)} rows, but summary.json "
                f"is about {count}"
            )
        if rows_checksum(lines[:count]).hexdigest() != checksums.get("steps"):
            raise DamagedFile(
                f"{folder / 'steps.jsonl'} is damaged: its rows don't match the checksum in "
                "summary.json"
            )
    final = summary.get("final") or {}
    if "episode" in final and all(row.get("episode") != final["episode"] for row in rows):
        raise DamagedFile(
            f"{folder / 'summary.json'} is damaged: it ends with episode {final['episode']}, but "
            "steps.jsonl has no row of that"
        )
    last: Mapping[str, Any] = next(
        (r for r in reversed(rows) if r.get("episode") == final.get("episode")), {}
    )
    for name in sorted((COUNTS | NUMBERS | {"ties"}) - {"step", "steps", "reward", "seconds"}):
        measured_apart = name == "seconds_per_iteration"  # of the episode there, of the step here
        if measured_apart or name not in final or name not in last:
            continue
        if final[name] != last[name]:
            raise DamagedFile(
                f"{folder / 'summary.json'} is damaged: it ends with {name} = {final[name]!r}, but "
                f"the last row of that episode in steps.jsonl has {last[name]!r}"
            )


def rows_checksum(lines: Sequence[bytes] = ()) -> hashlib._Hash:
    """A SHA-256 of rows as they stand in the file; more can be added, see `add_row`."""
    digest = hashlib.sha256()
    for line in lines:
        add_row(digest, line)
    return digest


def add_row(digest: hashlib._Hash, line: bytes) -> None:
    """Adds a row, without its line end, to a checksum of rows."""
    digest.update(line)
    digest.update(b"\n")


def own_checksum(summary: Mapping[str, Any]) -> str:
    """A SHA-256 of a summary but for the checksum itself, whatever the order of its entries."""
    content = {key: value for key, value in summary.items() if key != CHECKSUMS}
    content[CHECKSUMS] = (summary.get(CHECKSUMS) or {}).get("steps")
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_number(value: Any) -> bool:
    """Whether it is a finite number that a float holds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    # Integers of thousands of digits are no floats, and no figures either.
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63


def check_numbers(values: Any, count: int) -> None:
    """Fails at what isn't a list of so many finite numbers.

    Raises:
        ValueError: If it isn't.
    """
    if not isinstance(values, list) or len(values) != count or not all(map(is_number, values)):
        raise ValueError(f"{values!r:.80} must be {count} finite numbers")


def _wrong(where: Path | str, name: str, value: Any, must: str) -> DamagedFile:
    return DamagedFile(f"{where} is damaged: {name} is {value!r:.80}, and must be {must}")
