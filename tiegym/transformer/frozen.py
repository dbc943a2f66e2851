"""A transformer that trains no more, with a small part beside it that does.

What the two compute together is said by who inherits: `tiegym.transformer.ladder` and
`tiegym.transformer.elastic_depth`. What makes a run of one is `tiegym.training.frozen_workload`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiegym.ties import Ties
from tiegym.transformer.block import Shape, block, cast
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.private import cast_private


class FrozenTransformer(TiedTransformer):
    """A `TiedTransformer` whose own weights train no more, and can be run layer by layer.

    Its own layers never drop anything; `part_dropout` is for the part.

    Args:
        shape: As of `TiedTransformer`.
        ties: As of `TiedTransformer`.
        **options: As of `TiedTransformer`.
    """

    part: nn.Module
    """What trains; its weights are in the names that begin with `part.`."""

    def __init__(self, shape: Shape, ties: Ties, **options: Any) -> None:
        """Allocates the frozen weights; who inherits adds the part."""
        super().__init__(shape, ties, **options)
        self.requires_grad_(False)
        self.part_dropout, self.dropout = self.dropout, 0.0

    def initialize_part(self, seed: int) -> None:
        """Sets the weights of the part in place.

        Args:
            seed: The weights depend on it, and perhaps on the frozen ones.
        """
        raise NotImplementedError

    def embedded(self, tokens: Tensor) -> Tensor:
        """What the first layer gets, (B, T, C), in the compute dtype.

        Raises:
            ValueError: If there are more tokens than `block_size`.
        """
        length = tokens.shape[1]
        if length > self.shape.block_size:
            raise ValueError(
                f"{length} tokens a sequence, but block_size={self.shape.block_size}: give fewer"
            )
        x = F.embedding(tokens, self.token_embedding) + self.position_embedding[:length]
        return x.to(self.compute_dtype)

    def run_layer(self, layer: int, x: Tensor) -> Tensor:
        """The output of one layer, (B, T, C), for its input."""
        shared = cast(self.shared_weights(layer), x.dtype)
        private = cast_private(self.private_weights(layer), x.dtype)
        return block(shared, x, self.shape.n_head, None, private)

    def normalized(self, x: Tensor) -> Tensor:
        """What the output head gets for the last layer's output, (B, T, C)."""
        weight, bias = self.final_norm_weight.to(x.dtype), self.final_norm_bias.to(x.dtype)
        return F.layer_norm(x, (self.shape.n_embd,), weight, bias)

    def _empty(self, *size: int) -> nn.Parameter:
        """An uninitialised weight of a part."""
        like = self.token_embedding
        return nn.Parameter(torch.empty(size, device=like.device, dtype=like.dtype))
