"""From run folders to rows: which runs may be compared, and what is held against what.

It reads folders, not objects: whatever wrote them can be compared. The table that is made of rows
is `tiegym.analysis.tables`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiegym.analysis import groups
from tiegym.analysis.intervals import interquartile_mean
from tiegym.analysis.verdicts import Comparison, hold_against
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import Run

NULL_MODEL = "random_tying"
NO_LEARNING = "none"


@dataclass(frozen=True)
class Row:
    """The runs of one policy, one for each seed, in the order of the seeds."""

    policy: str
    protocol: str
    """online, pretrained, or none for what learns nothing."""
    runs: tuple[Run, ...]

    def final(self, key: str) -> list[float]:
        """A figure at the end of each run."""
        return [float(groups.final(run)[key]) for run in self.runs]

    def mean(self, key: str) -> float:
        """Its mean over seeds."""
        return float(np.mean(self.final(key)))

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [_seed(run) for run in self.runs]

    @property
    def program(self) -> str:
        """The program that made the runs."""
        return groups.program(self.runs[0])

    @property
    def env(self) -> dict[str, Any]:
        """The environment of the runs."""
        return dict(self.runs[0].config["env"])

    @property
    def perplexity(self) -> float:
        """Interquartile mean of the test perplexity over seeds."""
        return interquartile_mean(self.final("test_perplexity"))

    @property
    def losses(self) -> dict[int, float]:
        """Test loss of each run in nats, by seed."""
        return dict(zip(self.seeds, map(math.log, self.final("test_perplexity")), strict=True))

    @property
    def diverged(self) -> int:
        """Runs that diverged."""
        return sum(groups.state(run) == "diverged" for run in self.runs)

    @property
    def seconds_per_iteration(self) -> float:
        """Median over all steps of all runs, evaluation left out."""
        return float(np.median([s["seconds_per_iteration"] for r in self.runs for s in r.steps]))

    @property
    def extra_iterations(self) -> float:
        """Iterations besides the reported episode: before it, or on trials; mean over seeds."""
        return float(np.mean([_extra_iterations(run) for run in self.runs]))


def _seed(run: Run) -> int:
    seed = groups.seed(run)
    if seed is None:
        raise InputError(
            f"{run.folder} has no seed, by which runs are told apart: record options with one, "
            'as RecordRun(env, folder, {"options": {"seed": 1}}), or reset(seed=1)'
        )
    return seed


def _extra_iterations(run: Run) -> int:
    """Those that the program notes, and those of earlier episodes, whether they ended or not."""
    assert run.summary is not None
    reported = run.summary["final"]["episode"]
    lengths = {s["episode"]: s["iteration"] for s in run.steps if s["episode"] < reported}
    return int(run.summary.get("extra_iterations", 0) + sum(lengths.values()))


def make_row(policy: str, runs: Sequence[Run]) -> Row:
    """Puts the runs of one policy into a row, ordered by seed.

    Raises:
        InputError: If a run isn't finished or has no seed, its last episode is another than the
            one that its seed stands for, or two runs have the same seed.
    """
    for run in runs:
        _check_run(run)
    runs = sorted(runs, key=_seed)
    row = Row(policy, runs[0].config.get("protocol", NO_LEARNING), tuple(runs))
    if len(set(row.seeds)) != len(row.seeds):
        raise InputError(f"{policy}: two runs of the same seed among {row.seeds}")
    return row


def _check_run(run: Run) -> None:
    """Makes sure that what a run reports is one whole episode of its own seed."""
    if groups.state(run) == "cut off":
        raise InputError(
            f"{run.folder} is not a finished run: go on with its program and --resume, or run it "
            "again if it had fewer steps than an episode"
        )
    final, budget = groups.final(run), run.config["env"]["max_iters"]
    if "test_perplexity" not in final or (
        final["iteration"] != budget and not final.get("diverged")
    ):
        raise InputError(
            f"{run.folder}: its last episode was cut off after {final['iteration']} of {budget} "
            "iterations, so it has no test perplexity of the whole budget. Run it again without "
            "what truncates it"
        )
    if final["seed"] != _seed(run):
        raise InputError(
            f"{run.folder} reports an episode of seed {final['seed']}, but the run has seed "
            f"{_seed(run)}: its last episode is not the one that others with that seed had. Give "
            "each run one episode (no --total-steps); an agent that is to learn over several gets "
            "--pretrain-runs"
        )


MEASURED_ON = (
    *("n_layer", "n_head", "n_embd", "block_size"),
    *("tokenizer", "batch_size", "max_iters"),
    *("test_tokens", "eval_batches", "divergence_loss"),
)
"""Arguments of the environment that are the same in all runs of a comparison: the model's size,
the budget, and what a loss is measured on. `eval_batches` counts, since fixed patterns and learning
rates are chosen by validation loss, and `divergence_loss` since it is that of a run that
diverged."""

TRAINING = (
    *("learning_rate", "weight_decay", "grad_clip", "dropout"),
    *("iters_per_step", "tie_grad"),
)
"""Arguments that a policy may have of its own: a tied transformer may need another learning rate
than an untied one. The table's caption names them where they differ."""


def check_comparable(rows: Sequence[Row]) -> None:
    """Makes sure that all runs had the same text, model, budget and measure (`MEASURED_ON`).

    Raises:
        InputError: If not, naming what differs.
    """
    first = rows[0].runs[0]
    expected = _conditions(first)
    for run in (run for row in rows for run in row.runs):
        for key, value in _conditions(run).items():
            if value != expected[key]:
                raise InputError(
                    f"{run.folder} and {first.folder} can't be compared: {key} is {value!r} in one "
                    f"and {expected[key]!r} in the other. Run one of them again with the other's"
                )


def _conditions(run: Run) -> dict[str, Any]:
    env = run.config["env"]
    # Random numbers of a GPU are others than those of a CPU: runs of the same seed would be no
    # pairs, and seconds mean something else. Of two GPUs they are the same.
    device = run.config["device"].partition(":")[0]
    # bfloat16 costs perplexity. "auto" is another word for float32 where there is no GPU.
    dtype = "float32" if env["dtype"] == "auto" and device != "cuda" else env["dtype"]
    return {
        "corpus text": run.config["corpus_sha256"],
        **{key: env[key] for key in MEASURED_ON},
        "device": device,
        "dtype": dtype,
    }


def training_differences(rows: Sequence[Row]) -> dict[str, dict[Any, list[str]]]:
    """The arguments of `TRAINING` that aren't the same in all rows.

    Returns:
        For each the values, the most frequent one first, with the policies that have it.
    """
    result: dict[str, dict[Any, list[str]]] = {}
    for key in TRAINING:
        counts = Counter(row.env[key] for row in rows)
        if len(counts) > 1:
            result[key] = {
                value: [row.policy for row in rows if row.env[key] == value]
                for value, _ in counts.most_common()
            }
    return result


def against(row: Row, reference: Row) -> Comparison:
    """Compares two policies on test loss in nats."""
    return hold_against(row.losses, reference.losses)


def best_fixed(rows: Sequence[Row], row: Row) -> Row | None:
    """The fixed pattern of the size of `row`: its mean number of independent layers, rounded.

    Where there are several, the best one on validation; None where there is none.
    """
    n = math.floor(row.mean("n_independent") + 0.5)  # round() would take 2.5 to 2 and 3.5 to 4
    same = [
        r
        for r in others_alike(rows, row)
        if r.program.startswith("fixed") and set(r.final("n_independent")) == {n}
    ]
    return min(same, key=lambda r: r.mean("val_loss"), default=None)


def null_model(rows: Sequence[Row], row: Row) -> Row | None:
    """The row of random tying that a row is held against; None where there is none."""
    return next((r for r in others_alike(rows, row) if r.program == NULL_MODEL), None)


def others_alike(rows: Sequence[Row], row: Row) -> list[Row]:
    """The other rows whose tied layers have gradients of the same kind as in `row`.

    These change the result of the same ties: a policy isn't held against one of another kind.
    """
    return [r for r in rows if r is not row and r.env["tie_grad"] == row.env["tie_grad"]]
