"""Quantisation-aware training: weights that are rounded to few bits wherever they are used.

Learned step size quantisation (Esser et al. 2020, arXiv 1902.08153): a tensor w has a step s and
is used as s * clamp(round(w / s), -2^(b-1), 2^(b-1) - 1). Rounding passes gradients on as if it
did nothing, and the step learns.

The parameter is ln s. An update of AdamW is about as large as the learning rate, whatever the size
of the gradient; a step of 0.003 itself would be gone after three iterations at a rate of 0.001.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def bounds(bits: int) -> tuple[int, int]:
    """The least and the largest of the integers: -128 and 127 of 8 bits, -8 and 7 of 4."""
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def quantized(w: Tensor, log_step: Tensor, bits: int) -> Tensor:
    """A tensor as it is used: of its size, multiples of its step.

    Args:
        w: The weights, of any size.
        log_step: ln s, a scalar.
        bits: b.
    """
    result: Tensor = _Quantize.apply(w, log_step.exp(), bits)  # type: ignore[no-untyped-call]
    return result


class _Quantize(torch.autograd.Function):
    """s * clamp(round(w / s), low, high), with the gradients of learned step size quantisation.

    - Of w: passed on where low <= w / s <= high, else 0.
    - Of s: summed over w, round(w / s) - w / s in there, else the bound; all of it times
      1 / sqrt(n high) for n weights, as the paper's section 2.2 balances it with that of w.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, step: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(w, step)
        ctx.bits = bits
        return (w / step).round().clamp(*bounds(bits)) * step

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        w, step = ctx.saved_tensors
        low, high = bounds(ctx.bits)
        scaled = w / step
        inside = (scaled >= low) & (scaled <= high)
        slope = torch.where(inside, scaled.round() - scaled, scaled.clamp(low, high))
        of_step = (gradient * slope).sum() / math.sqrt(w.numel() * high)
        return gradient * inside, of_step, None


def initial_log_step(w: Tensor, bits: int) -> Tensor:
    """Ln s with s = 2 mean|w| / sqrt(high), the paper's first step; a scalar."""
    step = 2 * w.abs().mean() / math.sqrt(bounds(bits)[1])
    return step.clamp_min(torch.finfo(w.dtype).tiny).log()


def codes(w: Tensor, log_step: Tensor, bits: int) -> Tensor:
    """The integers of `quantized`, int8; 0 where a weight, or the step, is no number."""
    scaled = (w / log_step.exp()).round().clamp(*bounds(bits))
    return scaled.nan_to_num(0.0).to(torch.int8)


def packed(numbers: Tensor) -> Tensor:
    """Integers of 4 bits, two in a byte, the first in its lower half: uint8 (half of them,)."""
    nibbles = (numbers.flatten() + 8).to(torch.uint8)
    nibbles = F.pad(nibbles, (0, len(nibbles) % 2))
    return nibbles[0::2] | (nibbles[1::2] << 4)


def unpacked(halves: Tensor, size: torch.Size) -> Tensor:
    """The int8 integers of a size that `packed` got."""
    nibbles = torch.stack((halves & 15, halves >> 4), dim=1).flatten()[: size.numel()]
    return nibbles.to(torch.int8).sub_(8).view(size)
