"""What quantised matrices and tensor trains cost in time: ratios of training iterations.

On a CPU in CPU seconds, as in `benchmarks.private_cost`.

python -m benchmarks.compressed_cost
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import timing
from benchmarks.private_cost import cost
from benchmarks.program import run_benchmark
from benchmarks.timing import Quartiles, paired_ratio
from tiegym.config import TieConfig
from tiegym.runs.input_errors import as_input_errors, at_least
from tiegym.ties import parse
from tiegym.training.load import load_data
from tiegym.training.one_thread import one_thread
from tiegym.training.trainer import Trainer

KINDS: tuple[dict[str, Any], ...] = (
    {"quantize": "int8"},
    {"quantize": "int4"},
    {"factorize": "tt:8"},
    {"factorize": "tt:32"},
    {"quantize": "int4", "factorize": "tt:32"},
)


@dataclass(frozen=True)
class Options:
    """Measure compressed matrices."""

    repeats: int = 12
    """Pairs of training iterations for each ratio."""
    n_embd: int = 128
    """Width of the transformer, at least 32."""
    device: str = "auto"
    """auto, cpu or cuda."""
    corpus: str = "synthetic:50000"
    """What is trained on."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 2, "repeats")


def start(options: Options, ties: str, **changes: Any) -> Trainer:
    """A trainer at the defaults but for these, after its first iteration."""
    with as_input_errors():
        config = TieConfig(
            n_embd=options.n_embd,
            device=options.device,
            corpus=options.corpus,
            initial_ties=ties,
            **changes,
        )
        trainer = Trainer(config, load_data(config))
    trainer.reset(0, parse(ties, config.n_layer))
    trainer.train(1)
    return trainer


def iteration_ratio(options: Options, ties: str, kind: dict[str, Any]) -> Quartiles:
    """Seconds of an iteration with compressed matrices over those of one without."""
    ours, plain = start(options, ties, **kind), start(options, ties)
    return paired_ratio(
        lambda: cost(lambda: ours.train(1)), lambda: cost(lambda: plain.train(1)), options.repeats
    )


def run(options: Options) -> None:
    """Prints every ratio with its quartiles."""
    timing.title("Quantised matrices and tensor trains", "benchmarks.compressed_cost")
    timing.header("training iteration / without", "median", "quartiles")
    with one_thread():
        for ties in ("cycle:2", "independent"):
            for kind in KINDS:
                low, median, high = iteration_ratio(options, ties, kind)
                name = ", ".join((ties, *kind.values()))
                timing.row((name, f"{median:.2f}", f"{low:.2f} to {high:.2f}"))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.compressed_cost", __doc__, run, argv)


if __name__ == "__main__":
    main()
