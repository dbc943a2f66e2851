"""What each position keeps to itself whatever its ties: norms, scales and low-rank terms.

Which of them there are is a `tiegym.private.Private`; what they do is in
`tiegym.transformer.block.block`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tiegym.private import Private
from tiegym.transformer.block import BlockWeights, PrivateWeights, block_sizes
from tiegym.transformer.low_rank import LowRank, initial_a

MATRICES = ("qkv", "attention_out", "mlp_in", "mlp_out")
"""The four matrices of a block that a low-rank term can stand beside."""


def private_sizes(private: Private, n_embd: int) -> dict[str, tuple[int, ...]]:
    """The sizes of a position's private weights by their names.

    Named as in `PrivateWeights`; A of a low-rank term, (R, in), has "_a" behind the matrix's name,
    and B, (out, R), "_b".
    """
    of_block = block_sizes(n_embd)
    sizes: dict[str, tuple[int, ...]] = {}
    if private.norms:
        sizes |= {name: size for name, size in of_block.items() if name.startswith("norm")}
    if private.scales:
        sizes |= {"attention_scale": (n_embd,), "mlp_scale": (n_embd,)}
    if private.rank:
        for matrix in MATRICES:
            out, into = of_block[f"{matrix}_weight"]
            sizes |= {f"{matrix}_a": (private.rank, into), f"{matrix}_b": (out, private.rank)}
    return sizes


class PrivatePart(nn.Module):
    """The private weights of one position, named as in `private_sizes`."""

    def __init__(
        self, private: Private, n_embd: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Allocates the weights without setting their values."""
        super().__init__()
        for name, size in private_sizes(private, n_embd).items():
            weight = nn.Parameter(torch.empty(size, device=device, dtype=dtype))
            self.register_parameter(name, weight)

    @property
    def weights(self) -> PrivateWeights:
        """The parameters themselves, not copies."""
        weights: dict[str, Any] = dict(self._parameters)
        for matrix in MATRICES:
            if f"{matrix}_a" in weights:
                weights[matrix] = LowRank(weights.pop(f"{matrix}_a"), weights.pop(f"{matrix}_b"))
        return PrivateWeights(**weights)

    def term(self, matrix: str) -> LowRank:
        """The low-rank term beside one of `MATRICES`."""
        return LowRank(self.get_parameter(f"{matrix}_a"), self.get_parameter(f"{matrix}_b"))

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Values that change nothing: norms as in a block, scales 1, B = 0; A by `initial_a`."""
        for name, p in self.named_parameters():
            if name.endswith("_a"):
                initial_a(p, generator)
            else:
                p.fill_(1.0 if name.endswith(("weight", "scale")) else 0.0)


def cast_private(private: PrivateWeights, dtype: torch.dtype) -> PrivateWeights:
    """The same weights in another dtype; themselves where they have it already."""

    def to(value: Tensor | LowRank | None) -> Tensor | LowRank | None:
        if isinstance(value, LowRank):
            return LowRank(value.a.to(dtype), value.b.to(dtype))
        return None if value is None else value.to(dtype)

    return PrivateWeights(*map(to, private))  # type: ignore[arg-type]


@torch.no_grad()
def folded(weights: BlockWeights, private: PrivateWeights) -> BlockWeights:
    """The weights of a plain block that computes the same; no copies of what stays as it is.

    Norms take their place, low-rank terms are added to their matrices and scales multiplied into
    the rows that end in the residual stream, each in float32 or wider and rounded once.
    """
    wide = torch.promote_types(weights.qkv_weight.dtype, torch.float32)
    scales = {"attention_out": private.attention_scale, "mlp_out": private.mlp_scale}
    new = {
        name: p
        for name, p in private._asdict().items()
        if name in BlockWeights._fields and p is not None
    }
    for matrix in MATRICES:
        names = (f"{matrix}_weight", f"{matrix}_bias")
        weight, bias = (getattr(weights, name).to(wide) for name in names)
        if (term := getattr(private, matrix)) is not None:
            weight = weight + term.product
        if (scale := scales.get(matrix)) is not None:
            weight, bias = weight * scale.to(wide)[:, None], bias * scale.to(wide)
        new |= {
            name: w.to(getattr(weights, name).dtype)
            for name, w in zip(names, (weight, bias), strict=True)
        }
    return weights._replace(**new)
