"""Which runs belong together, how each ended, and where their options differ.

It reads run folders. Confidence intervals and tests are in `tiegym.analysis.verdicts`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import stats

from tiegym.runs.folder import WHERE_AND_HOW, Row, Run, read_run
from tiegym.runs.json_files import flat

_NOT_THE_POLICY = {"seed", "env", *WHERE_AND_HOW}


@dataclass(frozen=True)
class Group:
    """The runs of one policy: one program with one set of options, seed by seed.

    Attributes:
        label: The program's name, with the options that tell it from other groups of that name.
        runs: At least one.
    """

    label: str
    runs: tuple[Run, ...]

    @property
    def finished(self) -> list[Run]:
        """The runs that went as far as they should; the others are shown, but not counted."""
        return [run for run in self.runs if state(run) != "cut off"]

    def final(self, key: str) -> list[float]:
        """A figure at the end of each finished run, where it has it."""
        finals = [final(run) for run in self.finished]
        return [float(f[key]) for f in finals if f.get(key) is not None]


def find_runs(folders: Sequence[Path]) -> list[Run]:
    """Reads run folders, and all of those in folders that hold run folders.

    Raises:
        ValueError: If none is given, a folder holds no run, or a run is damaged.
        FileNotFoundError: If there is no such folder.
    """
    if not folders:
        raise ValueError("no run given: name at least one run folder, such as runs/ppo-seed0")
    found: dict[Path, Run] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: there is no such folder")
        here = [folder] if (folder / "config.json").is_file() else _run_folders_in(folder)
        if not here:
            raise ValueError(f"{folder}: no run folder (it has no config.json), and none in it")
        for run_folder in here:
            found.setdefault(run_folder.resolve(), read_run(run_folder))
    return list(found.values())


def _run_folders_in(folder: Path) -> list[Path]:
    return sorted(config.parent for config in folder.glob("*/config.json"))


def state(run: Run) -> str:
    """How it ended: "finished", "diverged", or "cut off" (which a run that goes on is, too)."""
    if run.summary is None or not run.summary["finished"]:
        return "cut off"
    return "diverged" if final(run).get("diverged") else "finished"


def final(run: Run) -> Row:
    """The figures at its end: of the last episode that ended, else of the last step; {} if none."""
    if run.summary is not None and run.summary["final"]:
        return dict(run.summary["final"])
    return run.steps[-1] if run.steps else {}


def last_episode(run: Run) -> list[Row]:
    """The steps of the episode that `final` is about."""
    episode = final(run).get("episode")
    return [row for row in run.steps if row["episode"] == episode]


def seed(run: Run) -> int | None:
    """Its seed: the program's, else that of its first reset."""
    value = (run.config.get("options") or {}).get("seed", final(run).get("seed"))
    return None if value is None else int(value)


def program(run: Run) -> str:
    """The program that made it; the folder's name where the record has none."""
    return str(run.config.get("program", run.folder.name))


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half: a quarter of the values (rounded down) is left out at either end."""
    return float(stats.trim_mean(values, 0.25))


def settings(run: Run) -> dict[str, Any]:
    """What decides a run's course but for the seed: options, environment and text; flat."""
    options = {
        name: value
        for name, value in (run.config.get("options") or {}).items()
        if name not in _NOT_THE_POLICY
    }
    return (
        flat(options)
        | flat({"env": run.config["env"]})
        | {"corpus_sha256": run.config.get("corpus_sha256")}
    )


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Puts runs of the same program and settings together; the lowest perplexity comes first."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        together.setdefault(json.dumps([program(run), settings(run)], sort_keys=True), []).append(
            run
        )
    members = [
        tuple(sorted(group, key=lambda run: (seed(run) is None, seed(run), str(run.folder))))
        for group in together.values()
    ]
    labels = _labels([group[0] for group in members])
    groups = [Group(label, group) for label, group in zip(labels, members, strict=True)]

    def order(group: Group) -> tuple[float, str]:
        values = group.final("test_perplexity")
        return (interquartile_mean(values) if values else float("inf"), group.label)

    return sorted(groups, key=order)


def _labels(runs: Sequence[Run]) -> list[str]:
    """The program's name, and what tells it from others of the same name."""
    labels = []
    for run in runs:
        same = [settings(other) for other in runs if program(other) == program(run)]
        telling = differing(same)
        mine = settings(run)
        text = ", ".join(f"{key.removeprefix('env.')}={mine.get(key)}" for key in telling)
        labels.append(f"{program(run)} ({text})" if text else program(run))
    return labels


def differing(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names whose values aren't the same in all tables, in order of appearance."""
    names = dict.fromkeys(name for table in tables for name in table)
    return [n for n in names if any(t.get(n) != tables[0].get(n) for t in tables[1:])]
