"""Timing in pairs: on a noisy machine only ratios within one run say anything."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from tiegym.transformer import TiedTransformer


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call, a GPU's queue included."""
    _wait()
    begin = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - begin


def paired_ratio(
    ours: Callable[[], float], theirs: Callable[[], float], repeats: int
) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile of the ratio ours / theirs.

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
    low, median, high = statistics.quantiles(ratios, n=4)
    return low, median, high


def line(name: str, ratio: tuple[float, float, float], aim: str) -> str:
    """One printed line of a ratio."""
    low, median, high = ratio
    return f"{name:<72} {median:6.3f}   [{low:.3f}, {high:.3f}]   aim {aim}"


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
        model.loss(inputs, targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()


def random_batches(model: TiedTransformer, n: int, batch_size: int) -> list[tuple[Tensor, Tensor]]:
    """Random tokens: what they are doesn't matter for speed."""
    shape, device = model.shape, model.token_embedding.device
    size = (n, 2, batch_size, shape.block_size)
    tokens = torch.randint(shape.vocab_size, size, device=device)
    return [(pair[0], pair[1]) for pair in tokens]


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
