"""What private parts and soft tie changes cost: shares of env steps at the defaults.

On a CPU steps are measured in CPU seconds, which a busy machine distorts less; with one thread,
since others count while they wait.

python -m benchmarks.private_cost
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from unittest.mock import patch

import torch

from benchmarks import timing
from benchmarks.breakdown import Clock
from benchmarks.program import environment, run_benchmark
from benchmarks.timing import Quartiles, paired_ratio, quartiles, seconds
from tiegym import TieEnv
from tiegym.runs.input_errors import at_least
from tiegym.training.one_thread import one_thread
from tiegym.transformer import soft_ties


@dataclass(frozen=True)
class Options:
    """Measure private parts and soft changes."""

    repeats: int = 15
    """Pairs of env steps for each ratio."""
    changes: int = 60
    """Env steps with a random layerwise action each, for soft changes."""
    device: str = "auto"
    """auto, cpu or cuda."""
    tie_grad: Literal["owner", "sum"] = "owner"
    """Whose gradients train shared weights."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 2, "repeats", "changes")


def start(options: Options, **changes: Any) -> TieEnv:
    """An environment at its defaults but for these, all layers tied, after its first step."""
    fixed: dict[str, Any] = {"tie_grad": options.tie_grad, "max_iters": 1_000_000}
    env = environment(device=options.device, **fixed, **changes)
    env.reset(seed=0)
    env.step(0)
    return env


def cost(work: Callable[[], object]) -> float:
    """Seconds of one call: the process's own on a CPU."""
    if torch.cuda.is_available():
        return seconds(work)
    begin = time.process_time()
    work()
    return time.process_time() - begin


def step_ratio(options: Options, private: str) -> Quartiles:
    """Seconds of an env step with private parts over those of one without."""
    ours, plain = start(options, private=private), start(options)
    return paired_ratio(
        lambda: cost(lambda: ours.step(0)), lambda: cost(lambda: plain.step(0)), options.repeats
    )


def soft_shares(options: Options, private: str) -> list[float]:
    """Seconds of soft changes over those of their env step, at random layerwise actions."""
    env, shares = start(options, private=private, tie_change="soft"), []
    env.action_space.seed(0)
    for _ in range(options.changes):
        action, clock = env.action_space.sample(env.action_masks().astype("int8")), Clock()
        with (
            patch.object(soft_ties, "plan", clock.wrapped("soft", soft_ties.plan)),
            patch.object(soft_ties, "carry_out", clock.wrapped("soft", soft_ties.carry_out)),
        ):
            total = seconds(lambda action=action: env.step(action))  # type: ignore[misc]
        shares.append(clock.seconds["soft"] / total)
    return shares


def run(options: Options) -> None:
    """Prints every ratio with its quartiles."""
    with one_thread():
        print_ratios(options)


def print_ratios(options: Options) -> None:
    """Prints the table, with as many threads as there are."""
    timing.title("Private parts and soft tie changes", "benchmarks.private_cost")
    timing.header(*timing.RATIO_COLUMNS)
    for private, aim in (("norms+scales", "<= 1.05"), ("lora:4", "<= 1.15")):
        name = f"env step, private={private} / none"
        timing.ratio_row(name, step_ratio(options, private), aim)
    shares = soft_shares(options, "lora:4")
    timing.ratio_row("soft change / env step, private=lora:4", quartiles(shares), "<= 0.05")
    timing.row((f"the costliest soft change of {len(shares)}", f"{max(shares):.3f}", "", ""))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.private_cost", __doc__, run, argv)


if __name__ == "__main__":
    main()
