"""Which runs belong together, how each ended, and where their options differ.

Where runs are found is in `tiegym.analysis.find`, confidence intervals and tests are in
`tiegym.analysis.verdicts`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiegym.analysis.find import TUNING, TUNING_SEEDS, find_runs
from tiegym.analysis.intervals import interquartile_mean
from tiegym.config import arguments_since_0_1
from tiegym.runs.folder import WHERE_AND_HOW, Row, Run
from tiegym.runs.json_files import flat

__all__ = [
    "Group",
    "differing",
    "final",
    "find_runs",
    "group_runs",
    "interquartile_mean",
    "last_episode",
    "policy_name",
    "program",
    "seconds_per_iteration",
    "seed",
    "settings",
    "state",
    "without_tuning",
]

_NOT_THE_POLICY = {"seed", "env", *WHERE_AND_HOW}

_NAMES = {
    "gradient_split": "gradient-split",
    "random_tying": "random",
    "random_fixed": "random-fixed",
    "random_raw": "random-raw",
}
"""Programs whose policy has a name of its own on the command line of a comparison."""


@dataclass(frozen=True)
class Group:
    """The runs of one policy: one program with one set of options, seed by seed.

    Attributes:
        label: The policy's name, with the options that tell it from other groups of that name.
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


def state(run: Run) -> str:
    """How it ended: "finished", "diverged", or "cut off" (which a run that goes on is, too)."""
    if run.summary is None or not run.summary.get("finished"):
        return "cut off"
    return "diverged" if final(run).get("diverged") else "finished"


def final(run: Run) -> Row:
    """The figures at its end: of the last episode that ended, else of the last step; {} if none."""
    if run.summary is not None and run.summary.get("final"):
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


def policy_name(run: Run) -> str:
    """The name of its policy: that of its program, or the shorter one that comparisons know."""
    name = program(run)
    options = run.config.get("options") or {}
    if name.startswith("fixed-"):
        return str(options.get("pattern", name.removeprefix("fixed-")))
    if name.startswith("shallow-"):
        return f"shallow:{options.get('layers', name.removeprefix('shallow-'))}"
    return _NAMES.get(name, name)


def seconds_per_iteration(runs: Sequence[Run]) -> float | None:
    """Median over all steps of all runs, evaluation left out; None where none was measured."""
    seconds = [step.get("seconds_per_iteration") for run in runs for step in run.steps]
    measured = [float(s) for s in seconds if isinstance(s, int | float)]
    return float(np.median(measured)) if measured else None


def without_tuning(
    runs: Sequence[Run], named: Sequence[Path], skip: Callable[[str], object]
) -> list[Run]:
    """The runs but for those by which a comparison has chosen learning rates.

    Whoever counted them would judge a policy by what it was chosen by.

    Args:
        runs: Of `find_runs`.
        named: The folders that were asked for: these runs, or theirs, aren't left out.
        skip: Called with a sentence for each folder of such runs.

    Raises:
        ValueError: If no other is there.
    """
    asked = {folder.resolve() for folder in named}
    kept, left_out = [], dict[Path, None]()
    for run in runs:
        at = run.folder.resolve()
        chose = at.parent.name == TUNING and seed(run) in TUNING_SEEDS
        if chose and not asked & {at, at.parent}:
            left_out[run.folder.parent] = None
        else:
            kept.append(run)
    if runs and not kept:
        raise ValueError(
            f"{', '.join(map(str, left_out))} holds runs that chose learning rates, and there are "
            "no others: name it to look at them"
        )
    for folder in left_out:
        skip(f"{folder} is left out: its runs chose learning rates. Name it to look at them")
    return kept


def settings(run: Run) -> dict[str, Any]:
    """What decides a run's course but for the seed: options, environment, text and weights; flat.

    Ties at the start that the program itself drew, found or chose for the seed are no setting.
    """
    options = {
        name: value
        for name, value in (run.config.get("options") or {}).items()
        if name not in _NOT_THE_POLICY
    }
    env = arguments_since_0_1() | run.config["env"]
    if any(key in run.config for key in ("drawn", "found", "chosen")):
        env.pop("initial_ties", None)
    hashes = {name: run.config.get(name) for name in ("corpus_sha256", "weights_sha256")}
    return flat(options) | flat({"env": env}) | hashes


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
    """The policy's name, and what tells it from others of the same name."""
    labels = []
    for run in runs:
        name = policy_name(run)
        same = [settings(other) for other in runs if policy_name(other) == name]
        telling = differing(same)
        mine = settings(run)
        text = ", ".join(f"{key.removeprefix('env.')}={mine.get(key)}" for key in telling)
        labels.append(f"{name} ({text})" if text else name)
    return labels


def differing(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names whose values aren't the same in all tables, in order of appearance."""
    names = dict.fromkeys(name for table in tables for name in table)
    return [n for n in names if any(t.get(n) != tables[0].get(n) for t in tables[1:])]
