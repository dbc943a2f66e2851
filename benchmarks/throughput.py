"""Iterations a second of TieEnv over a plain PyTorch loop that trains the same model untied.

12 layers, d = 128, T = 128, batch 8, a vocabulary of 8k. Both sides clip and use AdamW's fused
kernel; the plain loop (`benchmarks.plain_gpt`) computes all logits and reads every loss.

python -m benchmarks.throughput --corpus PATH_OF_WIKITEXT_2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks import timing
from benchmarks.plain_gpt import PlainLoop
from benchmarks.program import environment, run_benchmark
from benchmarks.timing import Quartiles
from tiegym.runs.input_errors import at_least
from tiegym.training.resolve import resolve_dtype


@dataclass(frozen=True)
class Options:
    """Measure throughput against a plain loop."""

    corpus: str = "stdlib"
    """As in TieEnv; the path of any text file or folder."""
    tokenizer: str = "bpe-8192"
    """As in TieEnv; sets the size of the vocabulary."""
    device: str = "auto"
    """auto, cpu or cuda."""
    n_layer: int = 12
    """Transformer blocks."""
    repeats: int = 9
    """Pairs of measurements for each ratio; three times as many for the one with an aim."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 2, "repeats")


def speedup(
    options: Options, ties: str, tie_grad: str, repeats: int
) -> tuple[Quartiles, Quartiles]:
    """Iterations a second over the plain loop's, without and with the env's evaluation.

    Args:
        options: The sizes.
        ties: The pattern that the env keeps.
        tie_grad: "owner" or "sum".
        repeats: Pairs of env steps and as many plain iterations.
    """
    env = environment(
        corpus=options.corpus,
        tokenizer=options.tokenizer,
        n_layer=options.n_layer,
        initial_ties=ties,
        tie_grad=tie_grad,
        action="joint",
        max_iters=100_000,
        device=options.device,
    )
    env.reset(seed=0)
    model, corpus = timing.our_model(env), env.corpus
    assert corpus is not None
    device = model.device
    mixed = resolve_dtype("auto", device)[1] == torch.bfloat16
    plain = PlainLoop(
        model.shape,
        corpus.train.astype(np.int64),
        env.config.batch_size,
        "bfloat16-mixed" if mixed else "float32",
        device,
    )
    k, action = env.config.iters_per_step, env.ties[1:]
    training, whole = [], []
    for pair in range(repeats + 1):
        if pair % 2:
            theirs = timing.seconds(lambda: plain.iterate(k))
        ours = timing.seconds(lambda: env.step(action))
        if not pair % 2:
            theirs = timing.seconds(lambda: plain.iterate(k))
        if pair:  # the first warms up
            whole.append(theirs / ours)
            training.append(theirs / (ours - float(env.step_stats["seconds_evaluation"])))
    return timing.quartiles(training), timing.quartiles(whole)


def run(options: Options) -> None:
    """Prints the speed of three patterns."""
    timing.title("TieEnv over a plain loop, iterations a second", "benchmarks.throughput")
    timing.header(*timing.RATIO_COLUMNS)
    for ties, tie_grad, repeats, aim in (
        ("cycle:2", "owner", 3 * options.repeats, ">= 1.15"),
        ("cycle:2", "sum", options.repeats, ""),
        ("independent", "owner", options.repeats, ""),
    ):
        training, whole = speedup(options, ties, tie_grad, repeats)
        timing.ratio_row(f"{ties} ({tie_grad}), training", training, aim)
        timing.ratio_row(f"{ties} ({tie_grad}), with the env's evaluation", whole, "")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.throughput", __doc__, run, argv)


if __name__ == "__main__":
    main()
