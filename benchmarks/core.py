"""What an environment step costs over a bare training loop, and what tying saves.

python -m benchmarks.core
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks import timing
from benchmarks.program import environment, run_benchmark
from benchmarks.timing import Quartiles, bare_iterations, paired_ratio, random_batches, seconds
from tiegym import ties
from tiegym.runs.input_errors import at_least
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer


@dataclass(frozen=True)
class Options:
    """Measure the core: ratios within one run."""

    repeats: int = 15
    """Pairs of measurements for each ratio."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 2, "repeats")


def env_step_over_bare_loop(options: Options) -> Quartiles:
    """Seconds of an env step without its evaluation over those of K bare iterations."""
    env = environment(device=options.device, max_iters=100_000)
    env.reset(seed=0)
    env.step(0)
    k, config = env.config.iters_per_step, env.config
    model = timing.our_model(env)
    batches = random_batches(model, k, config.batch_size)

    def step() -> float:
        total = seconds(lambda: env.step(0))
        return total - float(env.step_stats["seconds_evaluation"])

    def bare() -> float:
        return seconds(lambda: bare_iterations(model, env.optimizer, batches, config.grad_clip))

    return paired_ratio(step, bare, options.repeats)


def evaluation_share(options: Options) -> Quartiles:
    """Seconds of the evaluation over those of the whole env step, at the defaults."""
    env = environment(device=options.device, max_iters=100_000)
    env.reset(seed=0)
    shares = []
    for _ in range(options.repeats + 1):
        total = seconds(lambda: env.step(0))
        shares.append(float(env.step_stats["seconds_evaluation"]) / total)
    return timing.quartiles(shares[1:])  # the first one warms up


def owner_over_independent(options: Options) -> Quartiles:
    """An iteration with 2 of 12 layers independent, owner gradients, over one with all 12."""
    device = "cuda" if options.device != "cpu" and torch.cuda.is_available() else "cpu"
    shape = Shape(vocab_size=256, n_layer=12, n_head=4, n_embd=128, block_size=128)

    def prepare(pattern: str) -> tuple[TiedTransformer, torch.optim.Optimizer]:
        model = TiedTransformer(shape, ties.pattern(pattern, 12), "owner", device=device)
        model.initialize(0)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    tied, independent = prepare("cycle:2"), prepare("independent")
    batches = random_batches(tied[0], 2, 8)
    return paired_ratio(
        lambda: seconds(lambda: bare_iterations(*tied, batches, 1.0)),
        lambda: seconds(lambda: bare_iterations(*independent, batches, 1.0)),
        options.repeats,
    )


def state_over_16_bytes(options: Options) -> Quartiles:
    """Bytes of model state over 16 bytes a trainable parameter, after random actions."""
    env = environment(action="joint", iters_per_step=1, max_iters=1000, device=options.device)
    env.action_space.seed(0)
    env.reset(seed=0)
    ratios = []
    for _ in range(options.repeats):
        info = env.step(env.action_space.sample())[4]
        ratios.append(info["model_state_bytes"] / (16 * info["trainable_params"]))
    return min(ratios), float(np.median(ratios)), max(ratios)


def run(options: Options) -> None:
    """Prints every ratio with its quartiles."""
    timing.title("An environment step", "benchmarks.core")
    timing.header(*timing.RATIO_COLUMNS)
    for name, measure, aim in (
        ("env step without evaluation / K bare iterations", env_step_over_bare_loop, "<= 1.03"),
        ("evaluation / env step", evaluation_share, "<= 0.20"),
        (
            "iteration, 2 of 12 independent (owner) / 12 independent",
            owner_over_independent,
            "<= 0.80",
        ),
        (
            "model state / 16 bytes a parameter (min, median, max)",
            state_over_16_bytes,
            "1.00 to 1.02",
        ),
    ):
        timing.ratio_row(name, measure(options), aim)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.core", __doc__, run, argv)


if __name__ == "__main__":
    main()
