"""Dropout as noise that is drawn apart from what it is multiplied by."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Noise(NamedTuple):
    """What dropout multiplies by in one block: 0, or 1 / (1 - p) with probability 1 - p.

    A number instead of a tensor is p itself: PyTorch's own kernels then draw the noise, from its
    global generator of the device.
    """

    attention: Tensor | float  # (B, heads, T, T), in float32 or wider
    attention_out: Tensor | float  # (B, T, C)
    mlp_out: Tensor | float  # (B, T, C)


def draw_noise(
    x: Tensor, n_head: int, dropout: float, generator: torch.Generator | None = None
) -> Noise:
    """The noise of one block.

    Args:
        x: The residual stream that it will work on, (B, T, C).
        n_head: Attention heads.
        dropout: Probability p.
        generator: Of the device of `x`; None is PyTorch's global one.
    """
    batch, length, _ = x.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    scores = torch.empty((batch, n_head, length, length), dtype=wide, device=x.device)
    return Noise(*(noise_like(t, dropout, generator) for t in (scores, x, x)))


def noise_like(x: Tensor, dropout: float, generator: torch.Generator | None) -> Tensor:
    """Noise of the shape of a tensor: what `torch.nn.functional.dropout` multiplies it by."""
    noise = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return noise.bernoulli_(1 - dropout, generator=generator).div_(1 - dropout)


def drop(x: Tensor, noise: Tensor | float) -> Tensor:
    """Dropout by noise that is there, or by a probability; see `Noise`."""
    return F.dropout(x, noise) if isinstance(noise, float) else x * noise


def attention_with_noise(q: Tensor, k: Tensor, v: Tensor, noise: Tensor) -> Tensor:
    """Causal attention with dropout, (B, heads, T, C / heads) each; noise (B, heads, T, T).

    PyTorch's fused kernels draw from its global generator and take no other. Step by step and bit
    by bit this is what `torch.nn.functional.scaled_dot_product_attention` computes without them.
    """
    dtype, length = q.dtype, q.shape[2]
    q, k, v = (t.to(noise.dtype) for t in (q, k, v))
    scale = math.sqrt(1 / math.sqrt(q.shape[3]))  # of each side, which keeps the product small
    future = torch.full((length, length), -math.inf, dtype=q.dtype, device=q.device).triu(1)
    scores = (q * scale) @ (k.transpose(2, 3) * scale) + future
    return ((torch.softmax(scores, 3) * noise) @ v).to(dtype)
