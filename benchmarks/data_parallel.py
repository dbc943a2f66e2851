"""Training one transformer on several processes: time, and bytes that are added up.

    python -m benchmarks.data_parallel

Starts two processes with one thread each. The first one alone, and both together, do the same env
steps in turns, so that a ratio is of one moment of the machine. The speed-up needs two cores that
do nothing else; CPU seconds are comparable on a machine that does. Then it prints what 8 GPUs come
to at the paper's scale, by calculation.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import start_processes

from benchmarks import timing
from benchmarks.breakdown import operations
from benchmarks.program import run_benchmark
from tiegym.config import PAPER
from tiegym.env import TieEnv
from tiegym.runs.input_errors import InputError, as_input_errors, at_least
from tiegym.training import collectives
from tiegym.transformer.block import Shape


@dataclass(frozen=True)
class Options:
    """Measure data-parallel training on two processes; calculate it for 8 GPUs."""

    repeats: int = 10
    """Pairs of measurements of each ratio; 0 measures nothing."""
    steps: int = 2
    """Environment steps in a measurement."""
    corpus: str = "stdlib"
    """What is trained on."""
    n_layer: int = 6
    """Layers."""
    n_embd: int = 128
    """Width."""
    batch_size: int = 8
    """Sequences in a batch, of both processes together."""

    def __post_init__(self) -> None:
        """Checks the options."""
        if self.repeats:  # else it only calculates
            at_least(self, 2, "repeats")
        at_least(self, 1, "steps")
        at_least(self, 2, "n_layer")
        if self.batch_size < 2 or self.batch_size % 2:
            raise InputError(f"batch_size={self.batch_size} must be even: two processes share it")


COLUMNS = (
    "speed-up of two processes",
    "CPU seconds of two / of one",
    "of these, adding up",
)
TIES = ("independent", "cycle:2", "tied")
"""What is measured, a row each."""


def environment(options: Options, ties: str) -> TieEnv:
    """One that doesn't end."""
    env = TieEnv(
        corpus=options.corpus,
        n_layer=options.n_layer,
        n_embd=options.n_embd,
        batch_size=options.batch_size,
        initial_ties=ties,
        max_iters=10**9,
        device="cpu",
    )
    env.reset(seed=0)
    return env


def steps(env: TieEnv, n: int) -> None:
    """Takes so many environment steps that change no ties."""
    for _ in range(n):
        layer = int(env.action_masks().sum()) - 1
        env.step(int(env.ties[layer]))


def additions(env: TieEnv, n: int) -> None:
    """Adds up the last gradients as often as so many environment steps do."""
    model = env._trainer.model
    for _ in range(n * env.config.iters_per_step):
        collectives.add_up_gradients(collectives.messages_of(model, all_used=True))


class Seconds(NamedTuple):
    """What some work took."""

    wall: float
    cpu: float
    """Of all processes that did it, together."""


def measure(rank: int, options: Options, port: int) -> None:
    """What both processes do; the first one prints."""
    torch.set_num_threads(1)
    alone = [environment(options, ties) for ties in TIES] if rank == 0 else []
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)

    def timed(do: Callable[[TieEnv, int], None], env: TieEnv | None) -> Seconds:
        dist.barrier()
        wall, cpu = time.perf_counter(), time.process_time()
        if env is not None:
            do(env, options.steps)
        took = Seconds(time.perf_counter() - wall, time.process_time() - cpu)
        return Seconds(took.wall, sum(collectives.from_each(took.cpu)))

    if rank == 0:
        timing.header("ties", *COLUMNS, "bytes added up an iteration")
    for k, ties in enumerate(TIES):
        env = environment(options, ties)
        ratios: list[tuple[float, ...]] = []
        for _ in range(options.repeats + 1):
            one = timed(steps, alone[k] if rank == 0 else None)
            two, adding = timed(steps, env), timed(additions, env)
            ratios.append((one.wall / two.wall, two.cpu / one.cpu, adding.cpu / two.cpu))
        if rank == 0:
            each = [timing.quartiles([*values]) for values in zip(*ratios[1:], strict=True)]
            shown = [f"{median:.3f} ({low:.3f} to {high:.3f})" for low, median, high in each]
            timing.row((ties, *shown, f"{env.step_stats['added_up_bytes_per_iteration']:,}"))
    dist.destroy_process_group()


def calculate(batch_size: int, flops: float = 4e14, link: float = 2e11, ranks: int = 8) -> None:
    """Prints what an iteration comes to at the paper's scale, weights and gradients in bfloat16.

    Args:
        batch_size: Sequences, of all ranks together.
        flops: Operations a second of a GPU.
        link: Bytes a second between two GPUs, in each direction.
        ranks: GPUs.
    """
    n_layer, width, length = (PAPER[name] for name in ("n_layer", "n_embd", "block_size"))
    shape = Shape(50257, n_layer, PAPER["n_head"], width, length)
    tokens = batch_size * length // ranks
    for n in (n_layer, 7, 1):
        n_bytes = 2 * shape.params(n)
        sent = 2 * (ranks - 1) / ranks * n_bytes  # by a ring, which each rank sends once around
        computing, sending = operations(shape, tokens, n) / flops, sent / link
        shares = f"{computing / (computing + sending):.0%}"
        milliseconds = (f"{1e3 * seconds:.1f}" for seconds in (computing, sending))
        cells = (batch_size, n, n + 1, f"{n_bytes / 1e9:.2f}", f"{sent / 1e9:.2f}")
        timing.row((*cells, *milliseconds, shares))


def run(options: Options) -> None:
    """Prints both tables."""
    if options.repeats:
        with as_input_errors():
            environment(options, TIES[0])  # what can't be made is said here, by one process
        timing.title("Two processes against one", "benchmarks.data_parallel")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        start_processes(measure, (options, port), nprocs=2)  # type: ignore[no-untyped-call]
    print("\n### 8 GPUs, calculated\n")
    timing.header(
        *("batch", "independent layers", "messages", "GB added up", "GB sent by each"),
        *("computing, ms", "sending, ms", "efficiency"),
    )
    for batch_size in (PAPER["batch_size"], 8 * PAPER["batch_size"]):
        calculate(batch_size)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.data_parallel", __doc__, run, args)


if __name__ == "__main__":
    main()
