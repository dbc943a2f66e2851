"""One transformer block: its sizes, its weights, and its forward pass, a pure function of both.

Which weights a layer uses is decided elsewhere, by the tie vector of
`tiegym.transformer.gpt.TiedTransformer`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer.

    Attributes:
        vocab_size: Tokens in the vocabulary, V.
        n_layer: Layers L.
        n_head: Attention heads of each layer.
        n_embd: Width C of the residual stream.
        block_size: Context length T in tokens.
    """

    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int

    @property
    def block_params(self) -> int:
        """Parameters of one block: 12 C^2 + 13 C."""
        return 12 * self.n_embd**2 + 13 * self.n_embd

    def params(self, n_independent: int) -> int:
        """Trainable parameters with that many independent layers; the head is the embedding."""
        outside = (self.vocab_size + self.block_size + 2) * self.n_embd
        return outside + n_independent * self.block_params


class BlockWeights(NamedTuple):
    """The twelve weights of one block; C is the width.

    Weight and bias of `norm_1` and `norm_2`: (C,) and (C,); of `qkv`: (3C, C) and (3C,); of
    `attention_out`: (C, C) and (C,); of `mlp_in`: (4C, C) and (4C,); of `mlp_out`: (C, 4C) and
    (C,).
    """

    norm_1_weight: Tensor  # (C,)
    norm_1_bias: Tensor  # (C,)
    qkv_weight: Tensor  # (3C, C)
    qkv_bias: Tensor  # (3C,)
    attention_out_weight: Tensor  # (C, C)
    attention_out_bias: Tensor  # (C,)
    norm_2_weight: Tensor  # (C,)
    norm_2_bias: Tensor  # (C,)
    mlp_in_weight: Tensor  # (4C, C)
    mlp_in_bias: Tensor  # (4C,)
    mlp_out_weight: Tensor  # (C, 4C)
    mlp_out_bias: Tensor  # (C,)


def block(w: BlockWeights, x: Tensor, n_head: int, dropout: float) -> Tensor:
    """One pre-norm transformer block as in GPT-2; (B, T, C) to (B, T, C), causal.

    Args:
        w: The weights that it uses, in the dtype of `x`.
        x: The residual stream.
        n_head: Attention heads.
        dropout: Probability, 0 outside training.
    """
    batch, length, width = x.shape
    h = F.layer_norm(x, (width,), w.norm_1_weight, w.norm_1_bias)
    qkv = F.linear(h, w.qkv_weight, w.qkv_bias).view(batch, length, 3, n_head, width // n_head)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, C / heads)
    h = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    h = h.transpose(1, 2).reshape(batch, length, width)
    h = F.linear(h, w.attention_out_weight, w.attention_out_bias)
    x = x + F.dropout(h, dropout, dropout > 0)
    h = F.layer_norm(x, (width,), w.norm_2_weight, w.norm_2_bias)
    h = F.gelu(F.linear(h, w.mlp_in_weight, w.mlp_in_bias), approximate="tanh")
    h = F.linear(h, w.mlp_out_weight, w.mlp_out_bias)
    return x + F.dropout(h, dropout, dropout > 0)


class Block(nn.Module):
    """The weights of one independent layer, named as in `BlockWeights`."""

    def __init__(self, n_embd: int, device: torch.device, dtype: torch.dtype) -> None:
        """Allocates the weights without setting their values."""
        super().__init__()
        c = n_embd
        norm, qkv, out = [(c,), (c,)], [(3 * c, c), (3 * c,)], [(c, c), (c,)]
        mlp = [(4 * c, c), (4 * c,), (c, 4 * c), (c,)]
        sizes: list[tuple[int, ...]] = [*norm, *qkv, *out, *norm, *mlp]
        for name, size in zip(BlockWeights._fields, sizes, strict=True):
            self.register_parameter(
                name, nn.Parameter(torch.empty(size, device=device, dtype=dtype))
            )

    @property
    def weights(self) -> BlockWeights:
        """The parameters themselves, not copies."""
        return BlockWeights(*self.parameters())

    @torch.no_grad()
    def copy_(self, other: Block) -> Block:
        """Takes over the values of another block's weights, in place."""
        for mine, its in zip(self.parameters(), other.parameters(), strict=True):
            mine.copy_(its)
        return self

    @torch.no_grad()
    def initialize(self, n_layer: int, generator: torch.Generator) -> None:
        """GPT-2's initial values: normal(0, 0.02), residual projections over sqrt(2L)."""
        for name, p in self.named_parameters():
            if p.ndim == 1:
                p.fill_(1.0 if name.startswith("norm") and name.endswith("weight") else 0.0)
            else:
                residual = name in ("attention_out_weight", "mlp_out_weight")
                p.normal_(0, 0.02 / math.sqrt(2 * n_layer if residual else 1), generator=generator)


def cast(weights: BlockWeights, dtype: torch.dtype) -> BlockWeights:
    """The same weights in another dtype; themselves where they have it already."""
    return BlockWeights(*(w.to(dtype) for w in weights))
