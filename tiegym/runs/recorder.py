"""Recording: a wrapper that writes a run folder while anything at all steps the environment.

What is in a run folder, and how it is read, is in `tiegym.runs.folder`, whose names are importable
from here too. What to make of several runs is decided in neither.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import gymnasium

from tiegym.runs.episode_figures import EpisodeFigures
from tiegym.runs.folder import (
    FORMAT,
    Row,
    Run,
    claim,
    is_finished,
    read_run,
    unique_run_folder,
)
from tiegym.runs.journal import Journal
from tiegym.runs.json_files import dumps, finite, plain, read_json, write_json
from tiegym.runs.provenance import run_facts
from tiegym.runs.record_checks import CHECKSUMS
from tiegym.runs.run_files import RunFiles

__all__ = [
    "FORMAT",
    "RecordRun",
    "Run",
    "is_finished",
    "read_run",
    "run_facts",
    "unique_run_folder",
    "write_json",
]


class RecordRun(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Writes whatever steps a TieEnv into a run folder, row by row.

    A run that dies keeps every row up to its last step. Nothing is ever written over: a folder
    that holds something is refused.

    Args:
        env: A TieEnv, wrapped or not. What outer wrappers do (a time limit, say) isn't seen.
        folder: The run folder; made if it isn't there.
        config: What else belongs into `config.json`: the program and its options. Must not
            contain the entries that every run has (see `run_facts`).
        total_steps: Environment steps after which the run counts as finished; None is the end of
            its first episode. Either way an episode must have ended by then.
        journal: Of a run that can be resumed, as `tiegym.runs.program.open_run` makes it; `env` has
            the `tiegym.runs.replay.Resumable` for it inside. The folder is then the journal's, and
            the run counts as finished once this is closed, after all else that the program
            writes.

    Raises:
        TypeError: If `env` is no TieEnv, or if `config` holds what JSON can't.
        ValueError: If `config` has an entry of `run_facts`, or a number that isn't finite.
        FileExistsError: If the folder holds something.

    Examples:
        >>> import gymnasium, tempfile, tiegym
        >>> env = gymnasium.make("TieEnv-v0", corpus="synthetic:40000", max_iters=4)
        >>> folder = tempfile.mkdtemp()
        >>> env = tiegym.RecordRun(env, folder, {"program": "example"})
        >>> _ = env.reset(seed=0)
        >>> _ = env.step(1)
        >>> env.close()
        >>> tiegym.read_run(folder).summary["final"]["iteration"]
        4
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        folder: str | Path,
        config: Mapping[str, Any],
        total_steps: int | None = None,
        journal: Journal | None = None,
    ) -> None:
        super().__init__(env)
        facts = run_facts(env)
        if taken := sorted(facts.keys() & config.keys()):
            raise ValueError(f"config has {taken}, which every run records by itself: rename them")
        everything = plain({**config, **facts})
        dumps(everything)  # what can't be written is refused before there is a folder
        self.folder = Path(folder)
        self.total_steps = total_steps
        self._journal = journal
        self._open = True
        if journal is None:
            claim(self.folder)
        resumed = journal is not None and journal.resumed
        self._files = RunFiles(self.folder, resumed)
        # Cut off before it had its environment, a resumed run has a part of it at most.
        if not (resumed and "env" in read_json(self.folder / "config.json")):
            write_json(self.folder / "config.json", everything)
        self._iterations_before = 0
        self._episodes: list[Row] = []
        self._notes: dict[str, Any] = {}
        self._episode = EpisodeFigures(number=0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets; an episode that was left before its end keeps its rows and gets no summary."""
        result = self.env.reset(seed=seed, options=options)
        self._begin_episode(seed)
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, then writes the row; at the end of an episode also the summary.

        A step in which a wrapper inside resets by itself, as `gymnasium.wrappers.Autoreset` does,
        trains nothing: it begins an episode and has no row.
        """
        begin = time.perf_counter()
        replayed = self._journal is not None and self._journal.replaying
        result = self.env.step(action)
        _, reward, terminated, truncated, info = result
        if self._episode.steps > 0 and info["iteration"] <= self._episode.iteration:
            self._begin_episode(seed=None)
            if info["iteration"] == 0:
                return result
        if self._episode.begin is None:
            self._episode.begin = begin
        row = self._row(action, float(reward), terminated, truncated, info)
        if replayed:
            row = self._files.row_before(row)
            self._episode.begin = time.perf_counter() - row["seconds"]
        else:
            row |= _plain_values(self.env.unwrapped.step_stats)  # type: ignore[attr-defined]
            row["seconds"] = time.perf_counter() - self._episode.begin
            self._files.append(row)
        self._episode.add(row, float(reward))
        x = self._iterations_before + self._episode.iteration
        self._files.show(row, not replayed, self.env, self._episode, x)
        ended = bool(terminated or truncated)
        if ended:
            self._episodes.append({**_values(info, ended), **self._episode.figures()})
        self._write_summary_after_step(ended)
        return result

    def _begin_episode(self, seed: int | None) -> None:
        self._iterations_before += self._episode.iteration
        self._episode = EpisodeFigures(self._episode.number + (self._episode.steps > 0), seed)

    def _row(
        self, action: Any, reward: float, terminated: bool, truncated: bool, info: Mapping[str, Any]
    ) -> Row:
        """What follows from a step; a column of its own is never info's of the same name."""
        return {
            **_values(info, ended=terminated or truncated),
            "episode": self._episode.number,
            "step": self._episode.steps + 1,
            "action": plain(action),
            "reward": finite(reward),
            "terminated": bool(terminated),
            "truncated": bool(truncated),
        }

    def note(self, **values: Any) -> None:
        """Puts further entries into `summary.json`, such as the iterations spent before the run.

        Raises:
            TypeError: If JSON can't hold a value.
            ValueError: If the summary has an entry of that name by itself, or a number isn't
                finite.
        """
        own = {*self._summary(), CHECKSUMS} - self._notes.keys()
        if taken := sorted(values.keys() & own):
            raise ValueError(f"the summary has {taken} by itself: rename them")
        notes = plain(values)
        dumps(notes)
        self._notes |= notes
        if self._episodes:
            self._files.write_summary(self._summary())

    def close(self) -> None:
        """Closes the files and the environment; a run with a journal is finished by this."""
        journal, self._open = self._journal, False
        if self._episodes:
            self._files.write_summary(self._summary())
            if journal is not None and self._finished:
                journal.remove()
        self._files.close(self._finished)
        super().close()

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> Literal[False]:
        """Closes; where the program fails or is stopped, the run stays unfinished."""
        if kind is None:
            self.close()
        else:
            self._files.close(finished=False)
            super().close()
        return False

    @property
    def _finished(self) -> bool:
        """Whether the run went as far as it should, and nothing more will be written of it."""
        enough = bool(self._episodes) and self._files.count >= (self.total_steps or 0)
        return enough and (self._journal is None or not self._open)

    def _summary(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "finished": self._finished,
            "steps": self._files.count,
            "seconds": sum(e["seconds"] for e in self._episodes),
            "final": self._episodes[-1] if self._episodes else None,
            "episodes": self._episodes,
            **self._notes,
        }

    def _write_summary_after_step(self, ended: bool) -> None:
        last = self._files.count == self.total_steps
        if self._episodes and (
            last or (ended and self._files.summary_is_cheap(len(self._episodes)))
        ):
            self._files.write_summary(self._summary())


_NOT_OF_INFO = {
    *("episode", "step", "action", "reward", "terminated", "truncated", "seconds"),
    *("seed", "steps", "return"),
    "action_mask",
}
"""What rows and summaries have of their own, and what takes space and says nothing new."""


def _values(info: Mapping[str, Any], ended: bool) -> Row:
    """The entries of info for a record; figures of the test split only where there are some.

    Args:
        info: Of a step.
        ended: Whether it was the last of its episode. Before, a set of keys that is always the
            same can only say that there is no figure of the test split yet.
    """
    values = _plain_values({k: v for k, v in info.items() if k not in _NOT_OF_INFO})
    if ended:
        return values
    return {k: v for k, v in values.items() if v is not None or not k.startswith("test_")}


def _plain_values(values: Mapping[str, Any]) -> Row:
    """The entries that JSON can hold; a training run isn't ended by one that it can't."""
    row = {}
    for key, value in values.items():
        try:
            row[key] = finite(plain(value))
        except TypeError:
            continue
    return row
