"""Run folders: what is in one, and how it is made and read.

A run folder holds `config.json` (what was run, on what), `steps.jsonl` (a row for each environment
step), TensorBoard events and, from the end of the first episode on, `summary.json`. All of it but
the events is JSON in which every number is finite. `tiegym.runs.recorder` writes them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tiegym.atomic_write import sync_folder
from tiegym.runs.input_errors import DamagedFile, InputError
from tiegym.runs.json_files import parse_line, read_json, whole_lines
from tiegym.runs.record_checks import (
    CHECKSUMS,
    check_config,
    check_figures,
    check_summary,
    check_together,
)

FORMAT = 1
"""Version of the run folder; raised when a reader of the last version would misread it."""

LONGEST_NAME = 240
"""Bytes of a run folder's name: file systems have 255, and what is beside it is named after it."""

WHERE_AND_HOW = {
    *("runs_dir", "name", "quiet", "resume", "render"),
    *("checkpoint_every_steps", "checkpoint_every_minutes"),
    *("export", "sample_tokens"),  # what is left of the model at the end
    "paper",  # where the environment's values came from, which are all recorded themselves
}
"""Options that change nothing in what a run does: they belong to no identity of a run."""

Row: TypeAlias = dict[str, Any]
"""One environment step: its number, action and reward, and the plain values of its info."""


def unique_run_folder(runs_dir: str | Path, name: str) -> Path:
    """Makes an empty folder `runs_dir/name`, or `name-2`, `name-3`, ... if that is taken.

    It is made at once, so that two programs that start together don't get the same one.

    Raises:
        ValueError: If the name has a path in it, or is longer than names may be.
        OSError: If it can't be made.
    """
    if name in ("", "..") or Path(name).name != name or "\0" in name:
        raise InputError(f"name={name!r} must be the name of one folder, without a path")
    if len(os.fsencode(name)) > LONGEST_NAME:
        raise InputError(f"name={name!r:.40} has {len(name)} characters: give a shorter one")
    runs_dir = Path(runs_dir)
    runs_dir.mkdir(parents=True, exist_ok=True)
    folder, count = runs_dir / name, 1
    while True:
        try:
            folder.mkdir()
            sync_folder(runs_dir)
            return folder
        except FileExistsError:
            count += 1
            folder = runs_dir / f"{name}-{count}"


def claim(folder: Path) -> None:
    """Makes a run folder; one that is there must be empty.

    Raises:
        FileExistsError: If it holds something.
    """
    if folder.is_dir() and any(folder.iterdir()):
        if is_finished(folder):
            holds = "a finished run"
        elif (folder / "config.json").exists():
            holds = "a run that was cut off, or still goes on"
        else:
            holds = "files that are no run's"
        raise FileExistsError(
            f"{folder} holds {holds}, and nothing is written over: choose another folder "
            "(tiegym.runs.recorder.unique_run_folder finds one), or remove it first"
        )
    folder.mkdir(parents=True, exist_ok=True)


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Attributes:
        folder: Where it is.
        config: `config.json`.
        steps: The rows of `steps.jsonl`, one for each environment step.
        summary: `summary.json`, or None if no episode has ended. Its `final` holds the figures at
            the end of the last episode that ended, `finished` whether the run went as far as it
            should.
    """

    folder: Path
    config: dict[str, Any]
    steps: list[Row]
    summary: dict[str, Any] | None


def read_run(folder: str | Path) -> Run:
    """Reads a run folder; the half-written last row of a killed run is left out.

    Raises:
        FileNotFoundError: If there is no run folder.
        ValueError: If one of its files is damaged, or written by a newer tiegym.
    """
    folder = Path(folder)
    config = read_config(folder)
    # In this order: a run that goes on meanwhile has more rows then, not fewer than it says.
    summary = read_summary(folder)
    path = folder / "steps.jsonl"
    lines = whole_lines(path)
    rows = [parse_row(path, line, number) for number, line in enumerate(lines, start=1)]
    if summary is not None:
        if config.get("checksums") and CHECKSUMS not in summary:
            raise DamagedFile(f"{folder / 'summary.json'} is damaged: it has no {CHECKSUMS}")
        check_together(folder, summary, rows, lines)
        summary.pop(CHECKSUMS, None)
    return Run(folder, config, rows, summary)


def parse_row(path: Path, line: bytes, number: int) -> Row:
    """The row on a line of a `steps.jsonl`; raises as `tiegym.runs.json_files.parse_line` does."""
    row = parse_line(path, line, number)
    where = f"{path}, line {number},"
    if missing := {"episode", "iteration"} - row.keys():
        raise DamagedFile(f"{where} is damaged: it has no {', no '.join(sorted(missing))}")
    check_figures(where, row)
    return row


def read_summary(folder: Path) -> dict[str, Any] | None:
    """Reads and checks a `summary.json`, its checksums included; None if there is none.

    Raises:
        ValueError: If it is damaged.
    """
    path = folder / "summary.json"
    try:
        summary = read_json(path)
    except FileNotFoundError:
        return None
    check_summary(path, summary)
    return summary


def read_config(folder: Path) -> dict[str, Any]:
    """Reads the `config.json` of a run folder; raises as `read_run` does."""
    path = folder / "config.json"
    try:
        config = read_json(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{folder} is no run folder: it has no config.json") from error
    if config.get("format") != FORMAT:
        raise DamagedFile(
            f"{folder} has format {config.get('format')!r}, but this tiegym reads {FORMAT}: "
            "use the version that wrote it"
        )
    check_config(path, config)
    return config


def is_finished(folder: str | Path) -> bool:
    """Whether a folder holds a run that went as far as it should.

    Raises:
        ValueError: If its summary is damaged.
    """
    summary = read_summary(Path(folder))
    return summary is not None and summary.get("finished") is True
