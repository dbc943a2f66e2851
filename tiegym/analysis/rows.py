"""From run folders to rows: the runs of a policy, and which rows may be compared.

It reads folders, not objects: whatever wrote them can be compared. What each row is compared with
is in `tiegym.analysis.references`, the table of them in `tiegym.analysis.tables`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from tiegym.analysis import groups
from tiegym.analysis.intervals import interquartile_mean
from tiegym.analysis.run_checks import check_run, seed_of
from tiegym.config import arguments_since_0_1
from tiegym.data.tasks.names import METRIC_NAMES
from tiegym.runs.folder import Run
from tiegym.runs.input_errors import InputError
from tiegym.runs.record_checks import is_number

NO_LEARNING = "none"
SHALLOW = "shallow-"
"""Begins the program of an untied transformer with fewer layers than the others."""


@dataclass(frozen=True)
class Row:
    """The runs of one policy, one for each seed, in the order of the seeds."""

    policy: str
    protocol: str
    """online, pretrained, tabulated, or none for what learns nothing."""
    runs: tuple[Run, ...]

    def final(self, key: str) -> list[float]:
        """A figure at the end of each run."""
        return [float(groups.final(run)[key]) for run in self.runs]

    def mean(self, key: str) -> float:
        """Its mean over seeds."""
        return float(np.mean(self.final(key)))

    @property
    def bits_per_byte(self) -> float | None:
        """Mean of those of the test split; None where the task isn't to predict a text."""
        return self.mean_if_all_have("test_bits_per_byte")

    def mean_if_all_have(self, key: str) -> float | None:
        """Its mean over seeds; None if a run hasn't got it, as those of older versions."""
        has = all(is_number(groups.final(run).get(key)) for run in self.runs)
        return self.mean(key) if has else None

    @property
    def metrics(self) -> dict[str, float]:
        """The task's metrics on the test split by their names, mean over seeds; {} if none."""
        finals = [groups.final(run) for run in self.runs]
        return {
            name: self.mean(f"test_{name}")
            for name in METRIC_NAMES
            if all(is_number(final.get(f"test_{name}")) for final in finals)
        }

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [seed_of(run) for run in self.runs]

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
    def seconds_per_iteration(self) -> float | None:
        """Median over all steps of all runs, evaluation left out; None if it wasn't measured."""
        return groups.seconds_per_iteration(self.runs)

    @property
    def extra_iterations(self) -> float:
        """Iterations besides the reported episode: before it, or on trials; mean over seeds."""
        return float(np.mean([_extra_iterations(run) for run in self.runs]))


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
            one that its seed stands for, two runs have the same seed, or a figure that is needed
            isn't there or is no number.
    """
    for run in runs:
        check_run(run)
    runs = sorted(runs, key=seed_of)
    row = Row(policy, runs[0].config.get("protocol", NO_LEARNING), tuple(runs))
    for first, second in pairwise(row.runs):
        if seed_of(first) == seed_of(second):
            raise InputError(
                f"{policy}: two runs of the same seed, {seed_of(first)}: {first.folder} and "
                f"{second.folder}. Each seed counts once: name the runs that are to count"
            )
    return row


MEASURED_ON = (
    *("model", "model_config", "task"),
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
    *("iters_per_step", "tie_grad", "tie_parts", "choices"),
    *("warmup_iters", "lr_decay", "private", "tie_change"),
    *("init", "init_std", "residual_scale"),
    *("initial_weights", "embeddings", "merge", "quantize", "factorize"),
)
"""Arguments that a policy may have of its own: a tied transformer may need another learning rate
than an untied one. The table's caption names them where they differ."""


def check_comparable(rows: Sequence[Row]) -> None:
    """Makes sure that all runs had the same text, model, budget and measure (`MEASURED_ON`).

    An untied transformer with fewer layers (`shallow:M`) is what a user would pick for the same
    number of parameters: of it only the number of layers may differ.

    Raises:
        InputError: If not, naming what differs.
    """
    first = main_row(rows).runs[0]
    expected = conditions(first)
    for shallow, run in ((is_shallow(row), run) for row in rows for run in row.runs):
        for key, value in conditions(run).items():
            if key == "n_layer" and shallow:
                continue
            if value != expected[key]:
                raise InputError(
                    f"{run.folder} and {first.folder} can't be compared: {key} is {value!r} in one "
                    f"and {expected[key]!r} in the other. Run one of them again with the other's"
                )
    _check_same_tokens(rows)


def _check_same_tokens(rows: Sequence[Row]) -> None:
    """A tokenizer.json may be another under the same name; some runs don't say which they had."""
    had: dict[str, Run] = {}
    for run in (run for row in rows for run in row.runs):
        if run.config.get("tokenizer_sha256") is not None:
            had.setdefault(run.config["tokenizer_sha256"], run)
    if len(had) > 1:
        (one, first), (other, second) = list(had.items())[:2]
        raise InputError(
            f"{first.folder} and {second.folder} can't be compared: their tokenizers are others "
            f"(sha256 {one} and {other}), and perplexity is that of a token. Run one of them again "
            "with the other's"
        )


def is_shallow(row: Row) -> bool:
    """Whether it is an untied transformer with a number of layers of its own."""
    return row.program.startswith(SHALLOW)


def main_row(rows: Sequence[Row]) -> Row:
    """The first row that has as many layers as the comparison is about."""
    return next((row for row in rows if not is_shallow(row)), rows[0])


def conditions(run: Run) -> dict[str, Any]:
    """What must be the same in all runs of a comparison, with its name; flat."""
    named = arguments_since_0_1() | run.config["env"]
    env = {key: named.get(key) for key in (*MEASURED_ON, "dtype")}
    # Random numbers of a GPU are others than those of a CPU: runs of the same seed would be no
    # pairs, and seconds mean something else. Of two GPUs they are the same.
    device = str(run.config.get("device", "cpu")).partition(":")[0]
    # bfloat16 costs perplexity. "auto" is another word for float32 where there is no GPU.
    dtype = "float32" if env["dtype"] == "auto" and device != "cuda" else env["dtype"]
    pretrained = str(env["model"]).startswith("hf:")  # by a name that may mean others by now
    return {
        "corpus text": run.config.get("corpus_sha256"),
        "the pretrained model": run.config.get("weights_sha256") if pretrained else None,
        **{key: env[key] for key in MEASURED_ON},
        "device": device,
        "dtype": dtype,
    }


def trained_with(row: Row, key: str) -> Any:
    """An argument of its environment; runs of 0.1 don't name those that came later."""
    return row.env.get(key, arguments_since_0_1().get(key))


def training_differences(rows: Sequence[Row]) -> dict[str, dict[Any, list[str]]]:
    """The arguments of `TRAINING` that aren't the same in all rows.

    Returns:
        For each the values, the most frequent one first, with the policies that have it.
    """
    result: dict[str, dict[Any, list[str]]] = {}
    for key in TRAINING:
        counts = Counter(trained_with(row, key) for row in rows)
        if len(counts) > 1:
            result[key] = {
                value: [row.policy for row in rows if trained_with(row, key) == value]
                for value, _ in counts.most_common()
            }
    return result
