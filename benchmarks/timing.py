"""Timing in pairs, printed as Markdown: on a noisy machine only ratios in one run say anything."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from tiegym.env import TieEnv
from tiegym.transformer.gpt import TiedTransformer

Quartiles = tuple[float, float, float]
"""Lower quartile, median and upper quartile."""


def our_model(env: TieEnv) -> TiedTransformer:
    """The transformer of an environment whose model is "gpt"."""
    assert isinstance(env.model, TiedTransformer)
    return env.model


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call, a GPU's queue included."""
    wait()
    begin = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begin


def wait() -> None:
    """Waits for a GPU's queue."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def quartiles(values: list[float]) -> Quartiles:
    """Of two values or more."""
    low, median, high = statistics.quantiles(values, n=4)
    return low, median, high


def paired_ratio(ours: Callable[[], float], theirs: Callable[[], float], repeats: int) -> Quartiles:
    """Quartiles of the ratio ours / theirs.

    Args:
        ours: Does its work and returns the seconds that count.
        theirs: The same of what it is measured against.
        repeats: Pairs, at least 2; the order within a pair alternates.
    """
    ratios = []
    for k in range(repeats + 1):
        if k % 2:
            a, b = ours(), theirs()
        else:
            b, a = theirs(), ours()
        if k:  # the first pair warms up
            ratios.append(a / b)
    return quartiles(ratios)


def title(text: str, command: str) -> None:
    """Prints a heading, the command that measures it and the machine."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"\n### {text}\n\n`python -m {command}`: PyTorch {torch.__version__}, {device}, ", end="")
    print(f"{torch.get_num_threads()} CPU threads, {platform.machine()}\n")


def header(*columns: str) -> None:
    """Prints the head of a Markdown table."""
    row(columns)
    row(["---"] * len(columns))


def row(cells: Iterable[object]) -> None:
    """Prints one row of a Markdown table at once."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def ratio_row(name: str, ratio: Quartiles, aim: str) -> None:
    """Prints a ratio with its quartiles; the columns are `RATIO_COLUMNS`."""
    low, median, high = ratio
    row((name, f"{median:.3f}", f"{low:.3f} to {high:.3f}", aim))


RATIO_COLUMNS = ("ratio", "median", "quartiles", "aim")


def bare_iterations(
    model: TiedTransformer,
    optimizer: torch.optim.Optimizer,
    batches: list[tuple[Tensor, Tensor]],
    grad_clip: float,
) -> None:
    """The plain training loop that an environment step is measured against."""
    model.train()
    for inputs, targets in batches:
        optimizer.zero_grad(set_to_none=True)
        model.loss(inputs, targets).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()


def random_batches(model: TiedTransformer, n: int, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Random tokens: what they are doesn't matter for speed."""
    shape, device = model.shape, model.token_embedding.device
    size = (n, 2, batch_size, shape.block_size)
    tokens = torch.randint(shape.vocab_size, size, device=device)
    return [(pair[0], pair[1]) for pair in tokens]
