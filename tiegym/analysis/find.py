"""Run folders, found and read: those that are named, and all in folders that are named.

What belongs together of them is in `tiegym.analysis.groups`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tiegym.runs.folder import Run, read_run

TUNING = "tuning"
"""Folder, in that of a comparison, of the runs by which it has chosen learning rates."""
TUNING_SEEDS = (1_000_001, 1_000_002)
"""Of these runs; none that a table has."""

_READ = ("config.json", "steps.jsonl", "summary.json")


def find_runs(folders: Sequence[Path], skip: Callable[[str], object] = warnings.warn) -> list[Run]:
    """Reads run folders, and all of those in folders that hold run folders, however deep.

    A run that is named must be readable. Of those that are found, one that isn't (it was cut off
    before its record was whole, is still searching, or is damaged) is left out, so that it doesn't
    hide all others.

    Args:
        folders: At least one.
        skip: Called with a sentence for each run that is left out.

    Raises:
        ValueError: If none is given, a folder holds no run that can be read, or a run that is
            named is damaged.
        FileNotFoundError: If there is no such folder.
    """
    if not folders:
        raise ValueError("no run given: name at least one run folder, such as runs/ppo-seed0")
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: there is no such folder")
        if is_run_folder(folder):
            found.setdefault(folder.resolve(), read_whole_run(folder))
            continue
        runs = _readable(folder, skip)
        if not runs:
            raise ValueError(
                f"{folder}: no run folder (it has no config.json), and none in it"
                + (" that can be read" if any(_run_folders_in(folder)) else "")
            )
        for run in runs:
            found.setdefault(run.folder.resolve(), run)
    return list(found.values())


def is_run_folder(folder: Path) -> bool:
    """Whether a folder holds a run, whole or not; a text of any length may be meant for one."""
    return os.path.exists(folder / "config.json")


def read_whole_run(folder: Path) -> Run:
    """Reads a run folder whose record is whole: it says on what environment the run was.

    Raises:
        ValueError: If it isn't, a file of it is damaged, or is no file.
        FileNotFoundError: If there is no run.
        OSError: If it can't be read.
    """
    for name in _READ:  # reading a pipe would wait for ever
        path = folder / name
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is no regular file: remove it, or give another folder")
    run = read_run(folder)
    if not isinstance(run.config.get("env"), dict):
        raise ValueError(
            f"{folder} has no record of its environment yet: its program is still searching, or "
            "was cut off before it began to train. Wait, or resume it"
        )
    return run


def _readable(folder: Path, skip: Callable[[str], object]) -> list[Run]:
    runs = []
    for run_folder in _run_folders_in(folder):
        try:
            runs.append(read_whole_run(run_folder))
        except (OSError, ValueError) as error:
            skip(f"{run_folder} is left out: {error}")
    return runs


def _run_folders_in(folder: Path) -> Iterator[Path]:
    """Run folders at any depth, sorted; links are followed, but no folder is entered twice."""
    seen = set()
    for parent, children, _ in os.walk(folder, followlinks=True):
        if os.path.realpath(parent) in seen:
            children.clear()
            continue
        seen.add(os.path.realpath(parent))
        if is_run_folder(Path(parent)):
            yield Path(parent)
            children.clear()  # what a program put into its run folder is none
            continue
        children[:] = sorted(name for name in children if not name.startswith("."))
