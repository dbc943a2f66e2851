"""Recording: a wrapper that writes a run folder while anything at all steps the environment.

What is in a run folder, and how it is read, is in `tiegym.runs.folder`, whose names are importable
from here too. What to make of several runs is decided in neither.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import time
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium

from tiegym.runs import provenance, tensorboard_log
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
from tiegym.runs.json_files import (
    append_line,
    dumps,
    finite,
    keep_lines,
    plain,
    read_json,
    read_lines,
    write_json,
)

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

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

TENSORBOARD = {
    "train_loss": "train/loss",
    "perplexity": "eval/perplexity",
    "bits_per_byte": "eval/bits_per_byte",
    "reward": "eval/reward",
    "seconds_per_iteration": "time/seconds_per_iteration",
    "n_independent": "tie/n_independent",
    "trainable_params": "tie/trainable_params",
    "model_state_bytes": "tie/model_state_bytes",
    "test_perplexity": "test/perplexity",
    "test_bits_per_byte": "test/bits_per_byte",
}
"""The columns of a row that TensorBoard shows, with their names there (as SB3 names its own)."""


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
        self._rows_before: list[Row] = []
        if journal is None:
            claim(self.folder)
        if journal is not None and journal.resumed:
            self._rows_before = read_lines(self.folder / "steps.jsonl")
            self._remove_what_is_written_again()
        if not self._has_config():
            write_json(self.folder / "config.json", everything)
        self._rows: FileIO | None = None
        self._writer: SummaryWriter | None = None
        self._steps = 0
        self._iterations_before = 0
        self._episodes: list[Row] = []
        self._notes: dict[str, Any] = {}
        self._episode = _Episode(number=0)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Resets; an episode that was left before its end keeps its rows and gets no summary."""
        result = self.env.reset(seed=seed, options=options)
        self._iterations_before += self._episode.iteration
        self._episode = _Episode(self._episode.number + (self._episode.steps > 0), seed)
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, then writes the row; at the end of an episode also the summary."""
        if self._episode.begin is None:
            self._episode.begin = time.perf_counter()
        replayed = self._journal is not None and self._journal.replaying
        observation, reward, terminated, truncated, info = self.env.step(action)
        values = _plain_values({k: v for k, v in info.items() if _is_recorded(k, v)})
        if replayed:
            row = self._row_before()
        else:
            row = {
                "episode": self._episode.number,
                "step": self._episode.steps + 1,
                "action": plain(action),
                "reward": finite(float(reward)),
                "terminated": bool(terminated),
                "truncated": bool(truncated),
                "seconds": time.perf_counter() - self._episode.begin,
                **values,
                **_plain_values(self.env.unwrapped.step_stats),  # type: ignore[attr-defined]
            }
            self._append(row)
        self._steps += 1
        self._episode.add(float(reward), info["iteration"], row.get("seconds_per_iteration"))
        self._show(row, replayed)
        if terminated or truncated:
            self._episodes.append({**self._episode.figures(), **values})
        if self._episodes and (terminated or truncated or self._steps == self.total_steps):
            self._write_summary()
        return observation, reward, terminated, truncated, info

    def note(self, **values: Any) -> None:
        """Puts further entries into `summary.json`, such as the iterations spent before the run.

        Raises:
            TypeError: If JSON can't hold a value.
            ValueError: If the summary has an entry of that name by itself, or a number isn't
                finite.
        """
        if taken := sorted(values.keys() & self._summary().keys() - self._notes.keys()):
            raise ValueError(f"the summary has {taken} by itself: rename them")
        notes = plain(values)
        dumps(notes)
        self._notes |= notes
        if self._episodes:
            self._write_summary()

    def close(self) -> None:
        """Closes the files and the environment; a run with a journal is finished by this."""
        journal, self._open = self._journal, False
        if journal is not None and self._episodes:
            self._write_summary()
            if self._summary()["finished"]:
                journal.remove()
        self._close_files()
        super().close()

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> Literal[False]:
        """Closes; where the program fails or is stopped, the run stays unfinished."""
        if kind is None:
            self.close()
        else:
            self._close_files()
            super().close()
        return False

    def _close_files(self) -> None:
        if self._rows is not None:
            self._rows.close()
        if self._writer is not None:
            if self._summary()["finished"]:
                tensorboard_log.end(self._writer)
            self._writer.close()
        self._rows = self._writer = None

    def _has_config(self) -> bool:
        """Whether a resumed run was recorded already; if not, there is a part of it at most."""
        resumed = self._journal is not None and self._journal.resumed
        return resumed and "env" in read_json(self.folder / "config.json")

    def _remove_what_is_written_again(self) -> None:
        """What a resumed run says of steps that it may still have to take."""
        (self.folder / "summary.json").unlink(missing_ok=True)
        for events in self.folder.glob("events.out.tfevents.*"):
            events.unlink()

    def _row_before(self) -> Row:
        """The row of a step that is answered from the journal: it is written already."""
        row = self._rows_before[self._steps] if self._steps < len(self._rows_before) else {}
        if "seconds" not in row:
            raise ValueError(
                f"{self.folder / 'steps.jsonl'} is damaged: the run took step {self._steps + 1}, "
                "but it has no row of it"
            )
        self._episode.begin = time.perf_counter() - row["seconds"]
        return row

    def _append(self, row: Row) -> None:
        path = self.folder / "steps.jsonl"
        if self._rows is None:
            # Opened by the process that steps: the file wouldn't come through a fork whole.
            if self._rows_before:
                keep_lines(path, self._steps)
                self._rows_before = []
            self._rows = FileIO(path, "a")
        append_line(self._rows, row)

    def _show(self, row: Row, replayed: bool) -> None:
        """Gives TensorBoard its columns of a row, and images of what is not replayed."""
        if self._writer is None:
            # Likewise: its thread wouldn't come through a fork at all.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder))
            tensorboard_log.begin(self._writer, self.folder)
        x = self._iterations_before + self._episode.iteration
        for key, name in TENSORBOARD.items():
            if row.get(key) is not None:
                self._writer.add_scalar(name, row[key], x)
        ended = row["terminated"] or row["truncated"]
        if not replayed and (ended or tensorboard_log.images_due(row["step"])):
            tensorboard_log.add_images(self._writer, self.folder, self.env, x)
        self._writer.flush()

    def _summary(self) -> dict[str, Any]:
        seconds = sum(e["seconds"] for e in self._episodes)
        return {
            "format": FORMAT,
            "finished": self._steps >= (self.total_steps or 0)
            and (self._journal is None or not self._open),
            "steps": self._steps,
            "seconds": seconds,
            "final": self._episodes[-1] if self._episodes else None,
            "episodes": self._episodes,
            **self._notes,
        }

    def _write_summary(self) -> None:
        write_json(self.folder / "summary.json", self._summary())


@dataclasses.dataclass
class _Episode:
    """Running figures of one episode."""

    number: int
    seed: int | None = None
    steps: int = 0
    iteration: int = 0
    total_reward: float = 0.0
    training_seconds: float | None = 0.0
    begin: float | None = None

    def add(self, reward: float, iteration: int, seconds_per_iteration: Any) -> None:
        self.steps += 1
        self.total_reward += reward
        if seconds_per_iteration is None:  # an environment that doesn't measure it
            self.training_seconds = None
        elif self.training_seconds is not None:
            self.training_seconds += seconds_per_iteration * (iteration - self.iteration)
        self.iteration = int(iteration)

    def figures(self) -> Row:
        per_iteration = None
        if self.training_seconds is not None and self.iteration > 0:
            per_iteration = self.training_seconds / self.iteration
        return {
            "episode": self.number,
            "seed": self.seed,
            "steps": self.steps,
            "return": finite(self.total_reward),
            "seconds": 0.0 if self.begin is None else time.perf_counter() - self.begin,
            "seconds_per_iteration": per_iteration,
        }


def _is_recorded(key: str, value: Any) -> bool:
    """Whether an entry of info becomes a column: no mask, no figure of the end before it."""
    unread = key in ("test_perplexity", "test_bits_per_byte") and value == math.inf
    return key != "action_mask" and not unread


def _plain_values(values: Mapping[str, Any]) -> Row:
    """The entries that JSON can hold; a training run isn't ended by one that it can't."""
    row = {}
    for key, value in values.items():
        try:
            row[key] = finite(plain(value))
        except TypeError:
            continue
    return row


def run_facts(env: gymnasium.Env[Any, Any]) -> dict[str, Any]:
    """The entries of `config.json` that every run has.

    Returns:
        `format`, `created` (UTC), `env` (all fields of the TieConfig), `corpus_sha256`,
        `versions`, `git`, `device`, `device_name` and `threads`; see `tiegym.runs.provenance`.

    Raises:
        TypeError: If `env` is no TieEnv, wrapped or not.
    """
    inner: Any = env.unwrapped
    if missing := [n for n in ("config", "corpus", "step_stats") if not hasattr(inner, n)]:
        raise TypeError(
            f"{inner!r} has no {', '.join(missing)}: RecordRun records a TieEnv, as "
            'gymnasium.make("TieEnv-v0") makes it, alone or in wrappers'
        )
    return {
        "format": FORMAT,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "env": dataclasses.asdict(inner.config),
        "corpus_sha256": inner.corpus.sha256,
        "versions": provenance.versions(),
        "git": provenance.git_revision(),
        **provenance.device_facts(inner.config.device),
    }
