"""Running a block in a forward pass: with dropout, compiled or not, kept or computed again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tiegym.transformer.block import BlockWeights, PrivateWeights, block, cast
from tiegym.transformer.compiled import compiled_block
from tiegym.transformer.noise import Noise, draw_noise
from tiegym.transformer.private import cast_private


class Dropout(NamedTuple):
    """Where dropout comes from."""

    p: float
    """Its probability."""
    generator: torch.Generator | None
    """What its noise is drawn from; None is PyTorch's global generator of the device."""
    fused: bool
    """Whether PyTorch's own kernels drop, from the global generator."""


def run_block(
    weights: BlockWeights,
    private: PrivateWeights,
    x: Tensor,
    n_head: int,
    dropout: Dropout,
    compiled: bool,
) -> Tensor:
    """The block's output for (B, T, C), all weights cast to the dtype of x."""
    noise = None
    if dropout.p and dropout.fused:
        noise = Noise(dropout.p, dropout.p, dropout.p)
    elif dropout.p:
        noise = draw_noise(x, n_head, dropout.p, dropout.generator)
    run = compiled_block if compiled else block
    return run(cast(weights, x.dtype), x, n_head, noise, cast_private(private, x.dtype))


def run_checkpointed(
    weights: BlockWeights,
    private: PrivateWeights,
    x: Tensor,
    n_head: int,
    dropout: Dropout,
    compiled: bool,
) -> Tensor:
    """The same, keeping `x` alone: weights are cast inside, so that no cast is kept either.

    What is computed again draws the same noise again: from a generator in the state that ours had,
    or from the global one, whose state PyTorch puts back for it.
    """
    own = dropout.generator if dropout.p and not dropout.fused else None
    state = None if own is None else own.get_state()
    first = True

    def run(weights: BlockWeights, private: PrivateWeights, x: Tensor) -> Tensor:
        nonlocal first
        source = dropout
        if state is not None and not first:
            again = torch.Generator(x.device)
            again.set_state(state)
            source = dropout._replace(generator=again)
        first = False
        return run_block(weights, private, x, n_head, source, compiled)

    with_global = dropout.p > 0 and own is None
    result: Tensor = checkpoint(
        run, weights, private, x, use_reentrant=False, preserve_rng_state=with_global
    )
    return result
