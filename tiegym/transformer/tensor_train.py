"""Matrices as tensor trains: products of small cores (Oseledets 2011, SIAM J. Sci. Comput. 33).

A matrix (out, in) is taken as a tensor of six dimensions, three factors of out and three of in.
Its entry at (i1, i2, i3; j1, j2, j3) is the product of one slice of each core,

    G1[:, i1] G2[:, i2] G3[:, i3] G4[:, j1] G5[:, j2] G6[:, j3],

with cores (r, n, r') whose first and last rank is 1. The rank between the sides bounds that of the
matrix. Every matrix can be had with `tiegym.compression.largest_rank`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tiegym.compression import SIDE, core_sizes


def contracted(cores: Sequence[Tensor]) -> Tensor:
    """The matrix (out, in) of six cores, in their dtype; multiplied in float32 or wider.

    Each side is multiplied out by itself first: no intermediate is larger than (out, R) and (R, in)
    together.
    """
    wide = [core.to(torch.promote_types(core.dtype, torch.float32)) for core in cores]
    out, into = _chain(wide[:SIDE]), _chain(wide[SIDE:])
    return (out.flatten(0, -2) @ into.flatten(1)).to(cores[0].dtype)


def _chain(cores: Sequence[Tensor]) -> Tensor:
    """(r, n1, ..., nk, r') of cores (r, n1, .), ..., (., nk, r')."""
    result = cores[0]
    for core in cores[1:]:
        result = torch.tensordot(result, core, dims=1)
    return result


def draw_core(core: Tensor, std: float, generator: torch.Generator) -> None:
    """Draws one core in place, so that the entries of the matrix have a standard deviation.

    An entry is a sum of products of six numbers, over as many terms as the ranks multiply to. So
    the core (r, n, r') is normal with a standard deviation of std^(1/6) / sqrt(r').
    """
    core.normal_(0, std ** (1 / (2 * SIDE)) / math.sqrt(core.shape[2]), generator=generator)


def nearest(matrix: Tensor, rank: int) -> list[Tensor]:
    """Cores for a matrix by truncated singular value decompositions, one after the other (TT-SVD).

    The error is at most sqrt(5) times that of the best cores of this rank, and zero to rounding if
    the rank is that of any matrix.

    Args:
        matrix: (out, in).
        rank: R.

    Returns:
        Six cores in float32 or wider, their entries of one root mean square, as of drawn ones.
    """
    rest = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    out, into = matrix.shape
    cores = []
    *sizes, last = core_sizes(out, into, rank)
    for before, n, after in sizes:
        u, s, vh = torch.linalg.svd(rest.reshape(before * n, -1), full_matrices=False)
        cores.append(u[:, :after].reshape(before, n, after))
        rest = s[:after, None] * vh[:after]
    cores.append(rest.reshape(last))
    size = torch.stack([core.square().mean().sqrt() for core in cores])
    if size[-1] == 0:  # as the matrix is
        return cores
    even = size.log().mean().exp() / size
    return [core * scale for core, scale in zip(cores, even, strict=True)]
