"""Many transformers at once: training iterations a second of TiePopulation-v0 and its alternatives.

In each round every one of them takes an environment step in turn, with random actions: a loop
(SyncVectorEnv), processes (AsyncVectorEnv with one a core, which is as many members as work at the
same time), and one TieEnv. Rates are medians; ratios are of the same round. The last table is of
fixed sharings as `tiegym.bench.make` trains them, in CPU seconds of one thread.

python -m benchmarks.population
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

import tiegym  # noqa: F401 registers the environments
from benchmarks import timing
from benchmarks.program import run_benchmark
from benchmarks.timing import quartiles, seconds
from tiegym.bench import record
from tiegym.bench.tree import sharings
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError, as_input_errors, at_least
from tiegym.training.one_thread import one_thread

N_SHARINGS = 203
"""Of 6 layers."""


@dataclass(frozen=True)
class Options:
    """Measure many transformers at once."""

    members: tuple[int, ...] = (1, 4, 16, 64)
    """Numbers of transformers N."""
    widths: tuple[int, ...] = (32, 48, 128)
    """Of the transformers, of 6 layers with heads of width 16."""
    block_size: int = 32
    """Context length, TieBench's."""
    batch_size: int = 8
    """Sequences in a batch."""
    corpus: str = "synthetic:40000"
    """The text."""
    rounds: int = 7
    """Environment steps of each that are timed."""
    processes: int = os.cpu_count() or 1
    """Of AsyncVectorEnv."""
    device: str = "auto"
    """auto, cpu or cuda."""
    patterns: int = 29
    """Fixed sharings in the last table; 0 leaves it out."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 1, "members", "widths", "processes")
        at_least(self, 2, "rounds")
        at_least(self, 0, "patterns")
        if self.patterns > N_SHARINGS:
            raise InputError(
                f"patterns={self.patterns} must be at most {N_SHARINGS}, all there are"
            )


def config(options: Options, width: int) -> dict[str, Any]:
    """The arguments of the environments."""
    return {
        "n_embd": width,
        "n_head": max(1, width // 16),
        "block_size": options.block_size,
        "batch_size": options.batch_size,
        "corpus": options.corpus,
        "device": options.device,
        "max_iters": 1_000_000,
    }


def stepper(env: Any, iterations: int, seed: int) -> Callable[[], float]:
    """Takes an environment step of random actions; returns training iterations a second."""
    env.reset(seed=seed)
    env.action_space.seed(seed)

    def step() -> float:
        action = env.action_space.sample()
        return iterations / seconds(lambda: env.step(action))

    return step


def measured(options: Options, n: int, width: int) -> dict[str, list[float]]:
    """Rates of each in every round but the first, which warms up."""
    arguments = config(options, width)
    per_step = TieConfig().iters_per_step
    vector = {"id": "TieEnv-v0", **arguments}
    with as_input_errors():
        population = gymnasium.make_vec("TiePopulation-v0", num_envs=n, **arguments)
    made: dict[str, Any] = {
        "population": population,
        "loop": gymnasium.make_vec(num_envs=n, vectorization_mode="sync", **vector),
        "processes": gymnasium.make_vec(
            num_envs=options.processes,
            vectorization_mode="async",
            # A process that is forked after CUDA began can't use it.
            vector_kwargs={"context": "spawn"},
            **vector,
        ),
        "one": gymnasium.make(**vector),
    }
    members = {"population": n, "loop": n, "processes": options.processes, "one": 1}
    rates: dict[str, list[float]] = {name: [] for name in made}
    try:
        steps = {name: stepper(env, per_step * members[name], seed=0) for name, env in made.items()}
        for k in range(options.rounds + 1):
            for name in itertools.islice(itertools.cycle(steps), k % 4, k % 4 + 4):
                rate = steps[name]()
                if k:
                    rates[name].append(rate)
    finally:
        for env in made.values():
            env.close()
    return rates


def print_rates(options: Options) -> None:
    """The table of rates and ratios."""
    timing.title("Many transformers at once", "benchmarks.population")
    ratios = ("/ loop", "/ processes", "/ one")
    timing.header("width", "N", "population", "loop", "processes", "one TieEnv", *ratios)
    for width, n in itertools.product(options.widths, options.members):
        rates = measured(options, n, width)
        against = [
            quartiles([a / b for a, b in zip(rates["population"], rates[name], strict=True)])
            for name in ("loop", "processes", "one")
        ]
        cells = [f"{statistics.median(of):.0f}" for of in rates.values()]
        spans = [f"{median:.2f} ({low:.2f} to {high:.2f})" for low, median, high in against]
        timing.row((width, n, *cells, *spans))


def cpu_seconds(work: Callable[[], object]) -> float:
    """Seconds of this process on the processor, which a busy machine distorts less."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def print_patterns(options: Options) -> None:
    """How much faster fixed sharings train together, in CPU seconds of one thread."""
    timing.header(*timing.RATIO_COLUMNS)
    vectors = [*sharings(6)][:: N_SHARINGS // options.patterns][: options.patterns]
    for width in options.widths:
        values = config(options, width) | {"max_iters": 8, "device": "cpu", "dtype": "float32"}
        with as_input_errors():
            one = TieConfig(**values | {"tie_grad": "sum", "test_tokens": 1024})

        def alone(one: TieConfig = one) -> float:
            ties = (tuple(np.asarray(vector).tolist()) for vector in vectors)
            configs = [TieConfig(**{**vars(one), "initial_ties": each}) for each in ties]
            return cpu_seconds(lambda: record.curves(configs, seed=0))

        def together(one: TieConfig = one) -> float:
            return cpu_seconds(lambda: record.curves_together(one, vectors, seed=0))

        ratio = timing.paired_ratio(alone, together, max(2, options.rounds // 2))
        timing.ratio_row(
            f"{len(vectors)} fixed sharings of width {width}, alone / together", ratio, ""
        )


def run(options: Options) -> None:
    """Prints the tables."""
    print_rates(options)
    if options.patterns:
        with one_thread():
            print()
            print_patterns(options)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.population", __doc__, run, argv)


if __name__ == "__main__":
    main()
