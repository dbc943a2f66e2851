"""How cost grows with depth, and that it doesn't grow with history.

python -m benchmarks.scaling
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks import timing
from benchmarks.program import environment, run_benchmark
from benchmarks.timing import Quartiles, bare_iterations, random_batches
from tiegym import ties
from tiegym.runs.input_errors import at_least
from tiegym.transformer import tying
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer


@dataclass(frozen=True)
class Options:
    """Measure cost against depth and against history."""

    device: str = "auto"
    """auto, cpu or cuda."""
    depths: tuple[int, ...] = (6, 12, 24, 48)
    """Numbers of layers."""
    steps: int = 1000
    """Env steps of the history."""
    repeats: int = 7
    """Pairs of measurements for each depth; 20 times as many for the history."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 2, "depths", "repeats")
        at_least(self, 11, "steps")


def depth_row(options: Options, n_layer: int, n_independent: int = 2) -> None:
    """Prints milliseconds an iteration and model state, tied (owner) and independent."""
    device = "cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu"
    shape = Shape(vocab_size=256, n_layer=n_layer, n_head=4, n_embd=128, block_size=128)

    def prepare(pattern: str) -> tuple[TiedTransformer, torch.optim.Optimizer]:
        model = TiedTransformer(shape, ties.pattern(pattern, n_layer), "owner", device=device)
        model.initialize(0)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    tied, independent = prepare(f"cycle:{n_independent}"), prepare("independent")
    batches = random_batches(tied[0], 1, 8)
    times: dict[str, list[float]] = {"tied": [], "independent": []}

    def iteration(name: str, model: tuple[TiedTransformer, torch.optim.Optimizer]) -> float:
        times[name].append(timing.seconds(lambda: bare_iterations(*model, batches, 1.0)))
        return times[name][-1]

    low, median, high = timing.paired_ratio(
        lambda: iteration("tied", tied),
        lambda: iteration("independent", independent),
        options.repeats,
    )
    milliseconds = [f"{1000 * np.median(values[1:]):.1f}" for values in times.values()]
    states = [tying.model_state_bytes(*model) for model in (tied, independent)]
    timing.row(
        (
            n_layer,
            *milliseconds,
            f"{median:.3f} ({low:.3f} to {high:.3f})",
            *(f"{state / 2**20:.1f}" for state in states),
            f"{states[0] / states[1]:.3f}",
        )
    )


def late_over_early(options: Options) -> Quartiles:
    """Seconds of an env step after a long history over those of one after ten steps."""
    env = environment(
        action="joint",
        n_embd=64,
        block_size=64,
        iters_per_step=1,
        eval_batches=1,
        max_iters=100_000,
        device=options.device,
    )
    env.action_space.seed(0)
    env.reset(seed=0)
    for k in range(options.steps):
        if k == 10:
            early = env.fork()
        env.step(env.action_space.sample())
    action = ties.pattern("cycle:2", env.config.n_layer)[1:]
    return timing.paired_ratio(
        lambda: timing.seconds(lambda: env.step(action)),
        lambda: timing.seconds(lambda: early.step(action)),
        20 * options.repeats,
    )


def run(options: Options) -> None:
    """Prints both tables."""
    timing.title("Cost against depth, 2 independent layers (owner)", "benchmarks.scaling")
    timing.header(
        "layers", "tied, ms", "independent, ms", "ratio", "tied, MiB state", "independent", "ratio"
    )
    for n_layer in options.depths:
        depth_row(options, n_layer)
    timing.title("Cost against history", "benchmarks.scaling")
    timing.header(*timing.RATIO_COLUMNS)
    timing.ratio_row(f"env step {options.steps} / step 10", late_over_early(options), "<= 1.05")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.scaling", __doc__, run, argv)


if __name__ == "__main__":
    main()
