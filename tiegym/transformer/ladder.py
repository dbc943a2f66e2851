"""Ladder side-tuning (Sung et al. 2022, arXiv 2206.06522): a narrow network beside a frozen one.

The side network has a block for each layer of the backbone, of width w = C / r. With h_0 the
embedding and h_l the output of the backbone's layer l:

    s_0 = D_0 h_0
    s_l = block_l(m_l s_{l-1} + (1 - m_l) D_l h_l),  m_l = sigmoid(a_l / 0.1)
    logits = E U norm(s_L)

D_l goes from C to w, U back to C, E is the backbone's output head; a_l is 0 at the start. The
backbone runs without gradients, so that nothing inside of its layers is kept for a backward pass.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from tiegym.ties import Ties
from tiegym.transformer.block import NO_PRIVATE, Block, Shape
from tiegym.transformer.frozen import FrozenTransformer
from tiegym.transformer.run_block import Dropout, run_block
from tiegym.transformer.streams import begin_stream

TEMPERATURE = 0.1
"""Of the gates, as in the paper."""


def side_width(n_embd: int, n_head: int, reduction: int) -> int:
    """The width of a side network, n_embd / reduction.

    Raises:
        ValueError: If the reduction doesn't go with the sizes.
    """
    possible = [r for r in range(1, n_embd + 1) if n_embd % r == 0 and n_embd // r % n_head == 0]
    if reduction not in possible:
        raise ValueError(
            f"reduction={reduction} doesn't go with n_embd={n_embd} and n_head={n_head}: the side "
            "network has as many heads, each of a whole number of channels; choose one of "
            f"{', '.join(map(str, possible))}"
        )
    return n_embd // reduction


class SideNetwork(nn.Module):
    """The weights of a side network, without values.

    Args:
        width: w.
        model: The backbone.
    """

    def __init__(self, width: int, model: FrozenTransformer) -> None:
        """Allocates them like those of the backbone."""
        super().__init__()
        n_layer, n_embd, like = model.n_layer, model.shape.n_embd, model.token_embedding
        kind: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        self.down = nn.ModuleList(_empty_linear(n_embd, width, **kind) for _ in range(n_layer + 1))
        self.gates = nn.Parameter(torch.empty(n_layer, **kind))
        self.blocks = nn.ModuleList(Block(width, **kind) for _ in range(n_layer))
        self.norm = nn.LayerNorm(width, **kind)
        self.up = _empty_linear(width, n_embd, **kind)


class LadderTransformer(FrozenTransformer):
    """A frozen transformer, whose hidden states a side network reads.

    Args:
        shape: The backbone's sizes.
        ties: The backbone's ties; the blocks of the side network share nothing.
        reduction: r; the side network is n_embd / r wide.
        **options: As of `TiedTransformer`; the side network isn't compiled.

    Raises:
        ValueError: If the reduction doesn't go with the sizes.
    """

    part: SideNetwork

    def __init__(self, shape: Shape, ties: Ties, reduction: int = 8, **options: Any) -> None:
        """Allocates both networks."""
        super().__init__(shape, ties, **options)
        self.part = SideNetwork(side_width(shape.n_embd, shape.n_head, reduction), self)

    @torch.no_grad()
    def initialize_part(self, seed: int) -> None:
        """Draws the side network: blocks as those of a transformer, linear maps as PyTorch's."""
        side = self.part
        generator = torch.Generator(self.token_embedding.device)
        begin_stream(generator, seed, 0, 1)
        for linear in (*side.down, side.up):
            assert isinstance(linear, nn.Linear)
            for p in linear.parameters():
                bound = 1 / math.sqrt(linear.in_features)
                p.uniform_(-bound, bound, generator=generator)
        for block in side.blocks:
            assert isinstance(block, Block)
            block.initialize(self.n_layer, generator)
        side.gates.zero_()
        side.norm.weight.fill_(1.0)
        side.norm.bias.zero_()

    def hidden(self, tokens: Tensor, depth: int | None = None) -> Tensor:
        """U norm(s_L), (B, T, C), of tokens (B, T).

        Args:
            tokens: T up to block_size.
            depth: None: the side network needs all layers.

        Raises:
            ValueError: If T is over block_size, or a depth is given.
        """
        if depth is not None:
            raise ValueError(f"depth={depth}: a side network reads all layers, so give None")
        side, dtype = self.part, self.compute_dtype
        dropout = self.part_dropout if self.training else 0.0
        source = Dropout(dropout, self.dropout_generator, self.fused_dropout)
        with torch.no_grad():
            h = self.embedded(tokens)
        s = _linear(side.down[0], h)
        gates = torch.sigmoid(side.gates / TEMPERATURE).to(dtype)
        for layer in range(self.n_layer):
            with torch.no_grad():
                h = self.run_layer(layer, h)
            s = gates[layer] * s + (1 - gates[layer]) * _linear(side.down[layer + 1], h)
            block = side.blocks[layer]
            assert isinstance(block, Block)
            s = run_block(block.weights, NO_PRIVATE, s, self.shape.n_head, source, False)
        weight, bias = side.norm.weight.to(dtype), side.norm.bias.to(dtype)
        return _linear(side.up, F.layer_norm(s, (s.shape[-1],), weight, bias))


def _linear(module: nn.Module, x: Tensor) -> Tensor:
    """A linear map in the dtype of x."""
    assert isinstance(module, nn.Linear)
    return F.linear(x, module.weight.to(x.dtype), module.bias.to(x.dtype))


def _empty_linear(into: int, out: int, **kind: Any) -> nn.Linear:
    """One without values: PyTorch's own start draws them from its global generator."""
    linear: nn.Linear = skip_init(nn.Linear, into, out, **kind)  # type: ignore[no-untyped-call]
    return linear
