"""What pictures of runs need of them: any object that has these is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

Row: TypeAlias = dict[str, Any]
"""One environment step, as a run records it."""


class RecordedRun(Protocol):
    """A finished run, as `tiegym.runs.folder.Run` is one."""

    @property
    def folder(self) -> Path:
        """Where it is."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """What was run."""
        ...

    @property
    def steps(self) -> list[Row]:
        """A row for each environment step."""
        ...

    @property
    def summary(self) -> dict[str, Any] | None:
        """Its `final` holds the figures at the end of the last episode."""
        ...


class PolicyRuns(Protocol):
    """A policy and its finished runs, one for each seed."""

    @property
    def policy(self) -> str:
        """What it is called in the picture."""
        ...

    @property
    def runs(self) -> Sequence[RecordedRun]:
        """At least one, each with a summary."""
        ...


def last_episode(run: RecordedRun) -> list[Row]:
    """The steps of the last episode that ended."""
    assert run.summary is not None
    episode = run.summary["final"]["episode"]
    return [row for row in run.steps if row["episode"] == episode]


def finals_of(row: PolicyRuns) -> list[dict[str, Any]]:
    """The figures at the end of each run that has some."""
    return [run.summary["final"] for run in row.runs if run.summary]
