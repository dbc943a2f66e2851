"""The block through `torch.compile`: a function of its own for each size.

PyTorch counts recompilations by code object, and runs a function uncompiled, with a warning of its
own at most, once there are more than `torch._dynamo.config.recompile_limit` (8). One block for all
sizes would reach that with the second size of a process. So each size gets a copy of the function;
it has a graph for training with and without weight gradients (of either part, where parts share
weights apart) and one for evaluation; and where gradients of single positions are watched, one more
for each kind of weights with gradients, since an alias of a parameter is none: 8 at most. What
comes before anything that trains (see `TieConfig.embeddings`) has no gradient: it gets a copy, too.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tiegym.transformer.block import BlockWeights, PrivateWeights, block
from tiegym.transformer.noise import Noise

BlockFunction: TypeAlias = Callable[
    [BlockWeights, Tensor, int, Noise | None, PrivateWeights], Tensor
]


def compiled_block(
    w: BlockWeights, x: Tensor, n_head: int, noise: Noise | None, private: PrivateWeights
) -> Tensor:
    """What `tiegym.transformer.block.block` computes, compiled for this size once a process.

    Raises:
        RuntimeError: Where PyTorch can't compile it, or may not compile it once more: it is never
            run uncompiled instead.
    """
    kind = tuple(None if p is None else p[0].shape for p in private)
    function = _function(torch.compile, x.shape, x.dtype, x.device, x.requires_grad, n_head, kind)
    try:
        return function(w, x, n_head, noise, private)
    except torch._dynamo.exc.FailOnRecompileLimitHit as error:
        raise RuntimeError(
            "compile=True: PyTorch refuses to compile the block once more, and it is not run "
            "uncompiled without a word. Raise torch._dynamo.config.recompile_limit "
            f"({torch._dynamo.config.recompile_limit}; 8 is enough), or give compile=False"
        ) from error


@functools.cache
def _function(
    compiler: Callable[..., Any],
    shape: torch.Size,
    dtype: torch.dtype,
    device: torch.device,
    learns: bool,
    n_head: int,
    private: tuple[torch.Size | None, ...],
) -> BlockFunction:
    """A compiled copy of the block for one size; `compiler` is `torch.compile` as it is now.

    `learns` is whether the residual stream that goes in has a gradient.
    """
    name = f"block_{'x'.join(map(str, shape))}_{n_head}"
    code = block.__code__.replace(co_name=name)
    own = types.FunctionType(code, block.__globals__, name)
    compiled: BlockFunction = compiler(own, dynamic=False, fullgraph=True)
    return compiled
