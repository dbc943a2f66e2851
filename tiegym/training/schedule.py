"""The learning rate over an episode: a linear warm-up, then constant, cosine or linear decay."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch.optim import Optimizer

from tiegym.config import TieConfig


def rate_factor(config: TieConfig, iteration: int) -> float:
    """By what the learning rate is multiplied at an iteration, in (0, 1].

    It depends on the iteration alone: what goes on from a snapshot goes on exactly.

    Args:
        config: `warmup_iters` iterations rise linearly to the whole rate; from then on `lr_decay`
            lets it fall towards 0 at `max_iters` (Loshchilov and Hutter 2017, arXiv 1608.03983, for
            the cosine).
        iteration: From 0 on.

    Examples:
        >>> config = TieConfig(warmup_iters=2, lr_decay="linear", max_iters=6)
        >>> [rate_factor(config, iteration) for iteration in range(6)]
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    if iteration < config.warmup_iters:
        return (iteration + 1) / config.warmup_iters
    if config.lr_decay == "constant":
        return 1.0
    done = (iteration - config.warmup_iters) / (config.max_iters - config.warmup_iters)
    return 1 - done if config.lr_decay == "linear" else (1 + math.cos(math.pi * done)) / 2


@contextmanager
def scheduled(optimizer: Optimizer, factor: float) -> Iterator[None]:
    """Multiplies the learning rate of all parameters within the block.

    The optimiser's own rate stays what it is between iterations, so that one which a user sets is
    what the schedule multiplies.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    if factor != 1:  # a multiplication by 1 would change nothing, and cost as much
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
