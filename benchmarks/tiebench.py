"""Recorded steps against trained ones: steps a second of TieBench-v0, one and many at once.

    python -m benchmarks.tiebench
    python -m benchmarks.tiebench --table runs/tables/tree-4x2-mine-owner.npz

One process, one thread. TieEnv of the same shape is timed in turn on the same machine, on made-up
text, for a ratio that holds elsewhere.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium

from benchmarks import timing
from benchmarks.program import environment, run_benchmark
from tiegym.bench.table import shipped_tables
from tiegym.runs.input_errors import as_input_errors, at_least
from tiegym.training.one_thread import one_thread


@dataclass(frozen=True)
class Options:
    """Measure how fast a table is stepped."""

    table: str | None = None
    """A tree's name or file; None is the first that is shipped."""
    num_envs: int = 1024
    """Members of the vector environment."""
    seconds: float = 2.0
    """Of each of the measurements, which are made in turn."""
    repeats: int = 5
    """Measurements of each kind."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 1, "num_envs")
        at_least(self, 2, "repeats")


def steps_per_second(step: Callable[[], int], seconds: float) -> float:
    """Transitions a second of a function that returns how many it made."""
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for _ in range(20):
            count += step()
    return count / (time.perf_counter() - begin)


def measure(options: Options) -> dict[str, list[float]]:
    """Transitions a second of `TieBench-v0`, `num_envs` at once, and `TieEnv`."""
    name = options.table or next(t for t in shipped_tables() if t.startswith("tree-"))
    with as_input_errors():
        one = gymnasium.make("TieBench-v0", table=name).unwrapped
        many = gymnasium.make_vec("TieBench-v0", num_envs=options.num_envs, table=name)
    many = many.unwrapped
    config = dataclasses.asdict(one.config)  # type: ignore[attr-defined]
    real = environment(**{**config, "corpus": "synthetic:200000", "tokenizer": "bytes"})
    many.reset(seed=0)
    actions = many.action_space.sample()

    def step_many() -> int:
        many.step(actions)
        return options.num_envs

    work = {
        "TieBench-v0": stepper(one),
        f"{options.num_envs} at once": step_many,
        "TieEnv": stepper(real),
    }
    found: dict[str, list[float]] = {key: [] for key in work}
    for _ in range(options.repeats):
        for key, step in work.items():
            found[key].append(steps_per_second(step, options.seconds))
    return found


def stepper(env: gymnasium.Env) -> Callable[[], int]:
    """A function that takes one step, and begins the next episode after the last one."""
    env.reset(seed=0)

    def step() -> int:
        if env.step(1)[2]:
            env.reset()
        return 1

    return step


def run(options: Options) -> None:
    """Prints the table."""
    with one_thread():
        found = measure(options)
    timing.title("Recorded steps", "benchmarks.tiebench")
    timing.header("", "transitions a second, median", "over TieEnv")
    real = timing.quartiles(found["TieEnv"])[1]
    for key, values in found.items():
        median = timing.quartiles(values)[1]
        timing.row((key, f"{median:,.0f}", f"{median / real:,.0f}"))


def main() -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.tiebench", __doc__, run)


if __name__ == "__main__":
    main()
