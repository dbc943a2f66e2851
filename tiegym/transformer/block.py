"""One transformer block: its sizes, its weights, and its forward pass, a pure function of both.

Which weights a layer uses is decided elsewhere, by the tie vector of
`tiegym.transformer.gpt.TiedTransformer`. What a position keeps to itself beside them is in
`tiegym.transformer.private`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiegym import compression as compressions
from tiegym.compression import NO_COMPRESSION, Compression
from tiegym.private import Private, parse
from tiegym.transformer import compressed
from tiegym.transformer.low_rank import LowRank, linear
from tiegym.transformer.noise import Noise, attention_with_noise, drop
from tiegym.transformer.tensor_train import draw_core


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer.

    Attributes:
        vocab_size: Tokens in the vocabulary, V.
        n_layer: Layers L.
        n_head: Attention heads of each layer.
        n_embd: Width C of the residual stream.
        block_size: Context length T in tokens.
        private: What every layer keeps to itself, as in `TieConfig.private`.
        quantize: How its shared matrices are rounded, as in `TieConfig.quantize`.
        factorize: What stands for them, as in `TieConfig.factorize`.
    """

    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    block_size: int
    private: str = "none"
    quantize: str | None = None
    factorize: str | None = None

    @property
    def private_parts(self) -> Private:
        """What `private` says."""
        return parse(self.private)

    @property
    def compression(self) -> Compression:
        """What `quantize` and `factorize` say."""
        return compressions.parse(self.quantize, self.factorize)

    def part_sizes(self, part: str = "block") -> dict[str, tuple[int, ...]]:
        """The sizes of the weights that are kept of a block, or a part of one, by their names."""
        dense = block_sizes(self.n_embd, part, norms=not self.private_parts.norms)
        return compressed.compressed_sizes(dense, self.compression)

    @property
    def block_params(self) -> int:
        """Parameters of one block: 12 C^2 + 13 C, of which private norms take 4 C."""
        return sum(map(math.prod, self.part_sizes().values()))

    @property
    def attention_params(self) -> int:
        """Parameters of a block's attention part, its norm included: 4 C^2 + 6 C."""
        return sum(map(math.prod, self.part_sizes("attention").values()))

    def params(self, n_independent: int, n_mlp: int | None = None) -> int:
        """Trainable parameters with that many independent layers; the head is the embedding.

        Args:
            n_independent: Layers, or attention parts of layers.
            n_mlp: MLP parts, if they are as many as others.
        """
        outside = (self.vocab_size + self.block_size + 2) * self.n_embd
        private = self.n_layer * self.private_parts.params(self.n_embd)
        if n_mlp is None:
            n_mlp = n_independent
        mlp_params = self.block_params - self.attention_params
        return outside + n_independent * self.attention_params + n_mlp * mlp_params + private


class BlockWeights(NamedTuple):
    """The twelve weights of one block; C is the width.

    Weight and bias of `norm_1` and `norm_2`: (C,) and (C,); of `qkv`: (3C, C) and (3C,); of
    `attention_out`: (C, C) and (C,); of `mlp_in`: (4C, C) and (4C,); of `mlp_out`: (C, 4C) and
    (C,). Norms are None where each position has its own.
    """

    norm_1_weight: Tensor | None  # (C,)
    norm_1_bias: Tensor | None  # (C,)
    qkv_weight: Tensor  # (3C, C)
    qkv_bias: Tensor  # (3C,)
    attention_out_weight: Tensor  # (C, C)
    attention_out_bias: Tensor  # (C,)
    norm_2_weight: Tensor | None  # (C,)
    norm_2_bias: Tensor | None  # (C,)
    mlp_in_weight: Tensor  # (4C, C)
    mlp_in_bias: Tensor  # (4C,)
    mlp_out_weight: Tensor  # (C, 4C)
    mlp_out_bias: Tensor  # (C,)


class PrivateWeights(NamedTuple):
    """What one position has of its own beside the weights of a block; None is what it hasn't.

    Norms as in `BlockWeights`, instead of those; a gain on each residual branch; and a low-rank
    term beside each of the four matrices.
    """

    norm_1_weight: Tensor | None = None  # (C,)
    norm_1_bias: Tensor | None = None  # (C,)
    norm_2_weight: Tensor | None = None  # (C,)
    norm_2_bias: Tensor | None = None  # (C,)
    attention_scale: Tensor | None = None  # (C,)
    mlp_scale: Tensor | None = None  # (C,)
    qkv: LowRank | None = None
    attention_out: LowRank | None = None
    mlp_in: LowRank | None = None
    mlp_out: LowRank | None = None


NO_PRIVATE = PrivateWeights()
NO_NORMS: dict[str, Any] = {n: None for n in BlockWeights._fields if n.startswith("norm")}
"""What stands in `BlockWeights` where norms are private."""

PART_WEIGHTS: dict[str, tuple[str, ...]] = {
    "block": BlockWeights._fields,
    "attention": BlockWeights._fields[:6],
    "mlp": BlockWeights._fields[6:],
}
"""The names of the weights of each part of a layer. Norms belong to the part that they precede."""


def block(
    w: BlockWeights,
    x: Tensor,
    n_head: int,
    noise: Noise | None = None,
    private: PrivateWeights = NO_PRIVATE,
) -> Tensor:
    """One pre-norm transformer block as in GPT-2; (B, T, C) to (B, T, C), causal.

    It draws nothing at random unless it is told to by numbers in `noise`: noise that is drawn
    outside it is the same for a compiled block and for one that is computed twice.

    Args:
        w: The weights that it uses, in the dtype of `x`.
        x: The residual stream.
        n_head: Attention heads.
        noise: Of dropout, on the attention and on both residual branches; None drops nothing.
        private: What its position has beside those weights, in the same dtype.
    """
    batch, length, width = x.shape
    norms = w if private.norm_1_weight is None else private
    h = F.layer_norm(x, (width,), norms.norm_1_weight, norms.norm_1_bias)
    qkv = linear(h, w.qkv_weight, w.qkv_bias, private.qkv)
    qkv = qkv.view(batch, length, 3, n_head, width // n_head)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, T, C / heads)
    if noise is None or isinstance(noise.attention, float):
        p = 0.0 if noise is None else float(noise.attention)
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
    else:
        h = attention_with_noise(q, k, v, noise.attention)
    h = h.transpose(1, 2).reshape(batch, length, width)
    h = linear(h, w.attention_out_weight, w.attention_out_bias, private.attention_out)
    x = _add(x, h if noise is None else drop(h, noise.attention_out), private.attention_scale)
    h = F.layer_norm(x, (width,), norms.norm_2_weight, norms.norm_2_bias)
    h = F.gelu(linear(h, w.mlp_in_weight, w.mlp_in_bias, private.mlp_in), approximate="tanh")
    h = linear(h, w.mlp_out_weight, w.mlp_out_bias, private.mlp_out)
    return _add(x, h if noise is None else drop(h, noise.mlp_out), private.mlp_scale)


def _add(x: Tensor, branch: Tensor, scale: Tensor | None) -> Tensor:
    return x + branch if scale is None else torch.addcmul(x, branch, scale)


def block_sizes(n_embd: int, part: str = "block", norms: bool = True) -> dict[str, tuple[int, ...]]:
    """The sizes of the weights of a block, or a part of one, by their names in `BlockWeights`.

    Args:
        n_embd: Width C.
        part: One of `PART_WEIGHTS`.
        norms: Whether norms are among them, or each position's own.
    """
    c = n_embd
    norm, qkv, out = [(c,), (c,)], [(3 * c, c), (3 * c,)], [(c, c), (c,)]
    mlp = [(4 * c, c), (4 * c,), (c, 4 * c), (c,)]
    sizes: list[tuple[int, ...]] = [*norm, *qkv, *out, *norm, *mlp]
    every = dict(zip(BlockWeights._fields, sizes, strict=True))
    names = (n for n in PART_WEIGHTS[part] if norms or n not in NO_NORMS)
    return {name: every[name] for name in names}


class Block(nn.Module):
    """The weights of one independent layer, or of one of its parts, named as in `BlockWeights`.

    Compressed ones are named as in `tiegym.transformer.compressed`.
    """

    def __init__(
        self,
        n_embd: int,
        device: torch.device,
        dtype: torch.dtype,
        part: str = "block",
        norms: bool = True,
        compression: Compression = NO_COMPRESSION,
    ) -> None:
        """Allocates the weights without setting their values; arguments as in `block_sizes`."""
        super().__init__()
        self.compression = compression
        sizes = compressed.compressed_sizes(block_sizes(n_embd, part, norms), compression)
        for name, size in sizes.items():
            self.register_parameter(
                name, nn.Parameter(torch.empty(size, device=device, dtype=dtype))
            )

    def used(self) -> dict[str, Tensor]:
        """What a forward pass uses, by the names of `BlockWeights`.

        The parameters themselves, or what is made of them where they are compressed.
        """
        return compressed.used(dict(self.named_parameters()), self.compression)

    @property
    def weights(self) -> BlockWeights:
        """The same of a whole block."""
        return BlockWeights(**{**NO_NORMS, **self.used()})

    @torch.no_grad()
    def copy_(self, other: Block) -> Block:
        """Takes over the values of another block's weights, in place."""
        for mine, its in zip(self.parameters(), other.parameters(), strict=True):
            mine.copy_(its)
        return self

    def take_over(self, weights: Mapping[str, Tensor]) -> None:
        """Takes over weights as they are kept, or as they are used, by name; in place."""
        compressed.take_over(dict(self.named_parameters()), weights, self.compression)

    @torch.no_grad()
    def initialize(
        self, n_layer: int, generator: torch.Generator, uses: int = 1, std: float = 0.02
    ) -> None:
        """GPT-2's initial values: normal(0, std), residual projections over sqrt(2L).

        Args:
            n_layer: Layers L.
            generator: Where they are drawn from.
            uses: n divides residual projections by sqrt(n) more; see `TieConfig.residual_scale`.
            std: Standard deviation; GPT-2's is 0.02.
        """
        for name, p in self.named_parameters():
            residual = name.startswith(("attention_out_weight", "mlp_out_weight"))
            own = std / math.sqrt(2 * n_layer * uses if residual else 1)
            if p.ndim == 1:
                p.fill_(1.0 if name.startswith("norm") and name.endswith("weight") else 0.0)
            elif p.ndim == 2:
                p.normal_(0, own, generator=generator)
            elif p.ndim == 3:
                draw_core(p, own, generator)
        compressed.set_log_steps(dict(self.named_parameters()), self.compression)


def cast(weights: BlockWeights, dtype: torch.dtype) -> BlockWeights:
    """The same weights in another dtype; themselves where they have it already."""
    return BlockWeights(*(None if w is None else w.to(dtype) for w in weights))  # type: ignore[arg-type]
