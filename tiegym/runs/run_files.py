"""Writing a run folder: rows that only grow, a summary that vouches for them, TensorBoard events.

What is in a row and in a summary is up to `tiegym.runs.recorder`.

After a power cut a folder must not claim more than it holds. So rows reach the disk before the
summary that counts them, and before the checkpoint that goes on from them (see
`tiegym.runs.journal`); not after each step, which would cost a few milliseconds each.
"""

from __future__ import annotations

import os
import time
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium

from tiegym.data.tasks.names import METRIC_NAMES
from tiegym.runs import tensorboard_log
from tiegym.runs.episode_figures import EpisodeFigures
from tiegym.runs.folder import Row, parse_row
from tiegym.runs.input_errors import DamagedFile
from tiegym.runs.json_files import append_line, dumps, keep_lines, whole_lines, write_json
from tiegym.runs.record_checks import CHECKSUMS, add_row, own_checksum, rows_checksum
from tiegym.runs.regular_files import open_to_write

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TENSORBOARD = {
    "train_loss": "train/loss",
    "perplexity": "eval/perplexity",
    "bits_per_byte": "eval/bits_per_byte",
    "reward": "eval/reward",
    "seconds_per_iteration": "time/seconds_per_iteration",
    "n_independent": "tie/n_independent",
    "trainable_params": "tie/trainable_params",
    "model_state_bytes": "tie/model_state_bytes",
    "stored_bytes": "tie/stored_bytes",
    "test_perplexity": "test/perplexity",
    "test_bits_per_byte": "test/bits_per_byte",
    **{name: f"eval/{name}" for name in METRIC_NAMES},
    **{f"test_{name}": f"test/{name}" for name in METRIC_NAMES},
}
"""The columns of a row that TensorBoard shows, with their names there (as SB3 names its own)."""

_FEW = 64  # episodes
_SHARE = 0.05  # of the time


class RunFiles:
    """The files of a run folder that grow while the run goes on.

    Args:
        folder: The run folder.
        resumed: Whether the run has been there before: its rows are then given again first, by
            `row_before`, and what it said of steps that it may still have to take is removed.
    """

    def __init__(self, folder: Path, resumed: bool = False) -> None:
        self.folder = folder
        self.count = 0
        """Rows so far: those given again, and new ones."""
        self._resumed = resumed
        self._before: list[bytes] = []
        self._old_events: list[Path] = []
        self._checksum = rows_checksum()
        self._rows: FileIO | None = None
        self._writer: SummaryWriter | None = None
        self._can_show = tensorboard_log.can_write(folder)
        self._written, self._took = -1.0, 0.0  # when the summary was, and how long that took
        if resumed:
            self._before = whole_lines(self._path)
            self._old_events = tensorboard_log.event_files(folder)
            (folder / "summary.json").unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        return self.folder / "steps.jsonl"

    def row_before(self, known: Row) -> Row:
        """The next row of a step that is answered from the journal: it is written already.

        Args:
            known: What the answer says of it; the row has more, such as how long it took.

        Raises:
            DamagedFile: If it isn't, or says something else.
        """
        row: Row = {}
        if self.count < len(self._before):
            row = parse_row(self._path, self._before[self.count], self.count + 1)
        if "seconds" not in row or row["seconds"] is None:
            raise DamagedFile(
                f"{self._path} is damaged: the run took step {self.count + 1}, but it has no row "
                "of it"
            )
        if other := sorted(key for key in known if row.get(key) != known[key]):
            raise DamagedFile(
                f"{self._path}, line {self.count + 1}, is damaged: the run's journal has another "
                f"{', another '.join(other)}"
            )
        add_row(self._checksum, self._before[self.count])
        self.count += 1
        return row

    def append(self, row: Row) -> None:
        """Writes a new row, whole or not at all.

        Raises:
            OSError: If it can't be written.
        """
        if self._rows is None:
            # Opened by the process that steps: the file wouldn't come through a fork whole.
            if self._resumed:
                keep_lines(self._path, self.count)  # half a row must not grow together with this
                self._resumed, self._before = False, []
            self._rows = open_to_write(self._path)
        append_line(self._rows, row)
        add_row(self._checksum, dumps(row).encode())
        self.count += 1

    def show(
        self, row: Row, new: bool, env: gymnasium.Env[Any, Any], episode: EpisodeFigures, x: int
    ) -> None:
        """Gives TensorBoard its columns of a row and, if it is new, now and then images.

        Args:
            row: Given again or new.
            new: Which of these.
            env: As it is after the step, if that is new.
            episode: Likewise.
            x: Iterations, of all episodes.
        """
        if not self._can_show:
            return
        if self._writer is None:
            # Likewise: its thread wouldn't come through a fork at all.
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder))
            tensorboard_log.begin(self._writer, self.folder)
        if new:
            self._keep_images(before=x)
        for key, name in TENSORBOARD.items():
            if row.get(key) is not None:
                self._writer.add_scalar(name, row[key], x)
        ended = row["terminated"] or row["truncated"]
        if new and episode.ties and (ended or tensorboard_log.images_due(row["step"])):
            tensorboard_log.add_images(self._writer, episode.ties, episode.iterations, env, x)
        self._writer.flush()

    def _keep_images(self, before: float) -> None:
        """Takes over the images of the steps that were given again; their events go."""
        if self._old_events and self._writer is not None:
            tensorboard_log.keep_images(self._writer, self._old_events, before)
            self._writer.flush()
            for events in self._old_events:
                events.unlink()
            self._old_events = []

    def summary_is_cheap(self, episodes: int) -> bool:
        """Whether a summary may be written now, though it is not the last.

        It holds all episodes: written at the end of each, its cost would grow with their square.
        So where there are many, it is written as often as a small share of the time allows. An
        episode that trains a transformer is long enough for one each.
        """
        since = time.monotonic() - self._written
        return episodes <= _FEW or self._took <= _SHARE * since

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes a summary, after the rows that it is about."""
        begin = time.monotonic()
        if self._rows is not None:
            os.fsync(self._rows.fileno())
        content = {**summary, CHECKSUMS: {"steps": self._checksum.hexdigest()}}
        content[CHECKSUMS]["summary"] = own_checksum(content)
        write_json(self.folder / "summary.json", content)
        self._written = time.monotonic()
        self._took = self._written - begin

    def close(self, finished: bool) -> None:
        """Closes the files; they are opened again if need be.

        Args:
            finished: Whether the run has gone as far as it should.
        """
        rows, writer = self._rows, self._writer
        self._keep_images(before=float("inf"))
        self._rows = self._writer = None
        if rows is not None:
            rows.close()
        if writer is not None:
            if finished:
                tensorboard_log.end(writer)
            writer.close()
