"""What features of single positions cost, and how well `taylor` foresees the cost of a tie.

The second part compares d of `taylor` with the change of the validation loss when the tie is made,
hard and without training, for every target that differs.

python -m benchmarks.features
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.program import environment, run_benchmark
from benchmarks.timing import Quartiles, paired_ratio, seconds
from tiegym import TieEnv
from tiegym.runs.input_errors import at_least


@dataclass(frozen=True)
class Options:
    """Measure features of single positions."""

    repeats: int = 15
    """Pairs of env steps for each ratio."""
    steps: int = 60
    """Env steps of each run in which ties are tried."""
    seeds: int = 3
    """Such runs of each kind."""
    n_embd: int = 64
    """Width of these."""
    corpus: str = "stdlib"
    """Their text."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 2, "repeats")
        at_least(self, 1, "steps", "seeds")


def step_ratio(options: Options, features: str, tie_grad: str) -> Quartiles:
    """Seconds of an env step with more features over those of one with the default ones."""

    def start(**changes: Any) -> TieEnv:
        fixed: dict[str, Any] = {
            "tie_grad": tie_grad,
            "initial_ties": "sequence:2",
            "max_iters": 1_000_000,
        }
        env = environment(device=options.device, **fixed, **changes)
        env.reset(seed=0)
        env.step(0)
        return env

    ours, plain = start(features=f"moved+similarity+gradient+{features}"), start()

    def timed(env: TieEnv) -> float:
        layer = int(env._known_episode().layer)
        keep = int(env.ties[layer])
        return seconds(lambda: env.step(keep))

    return paired_ratio(lambda: timed(ours), lambda: timed(plain), options.repeats)


def foreseen(options: Options, initial_ties: str, seed: int) -> list[tuple[float, float]]:
    """Pairs of d in nats and the true change of the validation loss, in the last two sweeps.

    The ties are kept until then.
    """
    size = options.n_embd
    env = environment(
        features="taylor",
        tie_grad="sum",
        initial_ties=initial_ties,
        n_embd=size,
        block_size=size,
        max_iters=4 * options.steps + 4,
        corpus=options.corpus,
        device=options.device,
    )
    observation, info = env.reset(seed=seed)
    pairs = []
    for step in range(options.steps):
        layer = int(observation["layer"])
        observation, *_, info = env.step(int(env.ties[layer]))
        if step < options.steps - 2 * (env.config.n_layer - 1):
            continue
        layer, roots = int(observation["layer"]), env.model.roots
        for target in range(layer):
            if roots[target] == roots[layer]:
                continue
            twin = env.fork()
            ties = twin.ties
            ties[layer] = target
            twin._trainer.retie(ties)
            change = twin._trainer.validation_loss().item() - info["val_loss"]
            pairs.append((math.atanh(float(observation["layer_stats"][target])) / 10, change))
    return pairs


def run(options: Options) -> None:
    """Prints both parts."""
    timing.title("Features of single positions", "benchmarks.features")
    timing.header(*timing.RATIO_COLUMNS)
    for features, tie_grad in (("agreement+taylor", "sum"), ("taylor", "owner")):
        name = f"env step, {features} / the default, {tie_grad}"
        timing.ratio_row(name, step_ratio(options, features, tie_grad), "")
    timing.title("What taylor foresees", "benchmarks.features")
    timing.header("ties kept", "ties tried", "median d", "median change", "correlation")
    for initial_ties in ("independent", "sequence:3"):
        pairs = [p for seed in range(options.seeds) for p in foreseen(options, initial_ties, seed)]
        d, change = np.array(pairs).T
        correlation = f"{np.corrcoef(d, change)[0, 1]:.2f}"
        medians = (f"{np.median(values):.4f}" for values in (d, change))
        timing.row((initial_ties, len(pairs), *medians, correlation))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.features", __doc__, run, argv)


if __name__ == "__main__":
    main()
