"""The smallest exact form of a transformer's weights: what an exported model has on disk.

A tensor that is quantised is stored as its integers, one in a byte with 8 bits and two with 4, and
the logarithm of its step. From these a model computes the same logits; what lay between the steps
is gone. All other weights, cores of tensor trains among them, are stored as they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tiegym.ties import Ties
from tiegym.transformer.block import Shape
from tiegym.transformer.compressed import LOG_STEP
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.quantize import bounds, codes, packed, unpacked
from tiegym.transformer.sizes import parameter_sizes


def stored_sizes(
    sizes: Mapping[str, tuple[int, ...]], bits: int, dtype: torch.dtype
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Size and dtype of each stored tensor by name.

    Args:
        sizes: Of the parameters by name, as of `tiegym.transformer.sizes.parameter_sizes`.
        bits: Of each number of what is quantised: 8 or 4; 0 if nothing is.
        dtype: Of the parameters.
    """
    stored = {name: (size, dtype) for name, size in sizes.items()}
    for name in _quantized(sizes):
        half = (math.ceil(math.prod(sizes[name]) / 2),)
        stored[name] = (sizes[name], torch.int8) if bits == 8 else (half, torch.uint8)
    return stored


def small_form(model: TiedTransformer) -> dict[str, Tensor]:
    """The stored tensors of a model by name: its parameters themselves where they are not other."""
    tensors = {name: p.detach() for name, p in model.named_parameters()}
    bits = model.shape.compression.bits
    for name in _quantized(tensors):
        numbers = codes(tensors[name], tensors[f"{name}{LOG_STEP}"], bits)
        tensors[name] = numbers if bits == 8 else packed(numbers)
    return tensors


def full_form(tensors: Mapping[str, Tensor], shape: Shape, ties: Ties) -> dict[str, Tensor]:
    """The parameters of a model by name, from what `small_form` gave; arguments fit each other.

    Raises:
        ValueError: If a step is no positive number of a size that can be.
    """
    sizes, full = parameter_sizes(shape, ties), dict(tensors)
    bits = shape.compression.bits
    for name in _quantized(sizes):
        step = tensors[f"{name}{LOG_STEP}"].exp()
        least = torch.finfo(step.dtype).tiny
        if not (step >= least and step * bounds(bits)[0] > -math.inf):
            raise ValueError(
                f"{name}{LOG_STEP} is {tensors[f'{name}{LOG_STEP}'].item()}, the logarithm of no "
                "step that can be; that of a run that diverged, perhaps"
            )
        numbers = tensors[name]
        if bits == 4:
            numbers = unpacked(numbers, torch.Size(sizes[name]))
        full[name] = numbers.to(step.dtype) * step
    return full


def _quantized(names: Iterable[str]) -> list[str]:
    """The names of the tensors that have a step."""
    return [name.removesuffix(LOG_STEP) for name in names if name.endswith(LOG_STEP)]
