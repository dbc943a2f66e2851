"""The weights of a block that are kept small: quantised, as tensor trains, or both.

Only matrices are; biases and norms are what they were. A matrix `qkv_weight` becomes its cores
`qkv_weight_core_0` to `qkv_weight_core_5` if there is a rank, and each tensor that is quantised has
its step beside it, `qkv_weight_log_step` or `qkv_weight_core_0_log_step`, a scalar. What a forward
pass uses is made of them once, however many layers share it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tiegym.compression import Compression, core_sizes
from tiegym.transformer.quantize import initial_log_step, quantized
from tiegym.transformer.tensor_train import contracted, nearest

CORE, LOG_STEP = "_core_", "_log_step"
"""What stands behind the name of a matrix, and behind that of a tensor that is quantised."""

Sizes = dict[str, tuple[int, ...]]


def compressed_sizes(sizes: Mapping[str, tuple[int, ...]], compression: Compression) -> Sizes:
    """The sizes of what is kept, by name, of weights by name."""
    kept: Sizes = {}
    for name, size in sizes.items():
        tensors: Sizes = {name: size}
        if len(size) == 2 and compression.rank:
            cores = core_sizes(*size, compression.rank)
            tensors = {f"{name}{CORE}{k}": core for k, core in enumerate(cores)}
        for tensor, own_size in tensors.items():
            kept[tensor] = own_size
            if len(size) == 2 and compression.bits:
                kept[f"{tensor}{LOG_STEP}"] = ()
    return kept


def used(kept: Mapping[str, Tensor], compression: Compression) -> dict[str, Tensor]:
    """The weights that a forward pass uses, by the names of `BlockWeights`; differentiable.

    Args:
        kept: By the names of `compressed_sizes`.
        compression: As there.
    """
    if not compression:
        return dict(kept)
    pieces: dict[str, list[Tensor]] = {}
    for name, tensor in kept.items():
        if name.endswith(LOG_STEP):
            continue
        if (log_step := kept.get(f"{name}{LOG_STEP}")) is not None:
            tensor = quantized(tensor, log_step, compression.bits)
        pieces.setdefault(name.partition(CORE)[0], []).append(tensor)
    return {name: p[0] if len(p) == 1 else contracted(p) for name, p in pieces.items()}


@torch.no_grad()
def set_log_steps(kept: Mapping[str, Tensor], compression: Compression) -> None:
    """Sets the steps, in place, to those that their tensors begin with."""
    for name, tensor in kept.items():
        if name.endswith(LOG_STEP):
            weights = kept[name.removesuffix(LOG_STEP)]
            tensor.copy_(initial_log_step(weights, compression.bits))


@torch.no_grad()
def take_over(
    kept: Mapping[str, Tensor], weights: Mapping[str, Tensor], compression: Compression
) -> None:
    """Sets what is kept, in place, to the nearest to other weights.

    Args:
        kept: By the names of `compressed_sizes`.
        weights: By the same names, or by those of `BlockWeights`: matrices are then made tensor
            trains, and steps those that a tensor begins with.
        compression: Of what is kept.
    """
    set_log_steps_too = not any(name.endswith(LOG_STEP) for name in weights)
    for name, tensor in kept.items():
        if name in weights:
            tensor.copy_(weights[name])
        elif name.endswith(f"{CORE}0"):
            matrix = name.removesuffix(f"{CORE}0")
            for k, core in enumerate(nearest(weights[matrix], compression.rank)):
                kept[f"{matrix}{CORE}{k}"].copy_(core)
    if set_log_steps_too:
        set_log_steps(kept, compression)
