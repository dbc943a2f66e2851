"""Low-rank terms B A beside a matrix: their product, and the best one in place of another matrix.

Where W is a constant, no gradient of its size is computed for the sum W + B A. In float32 and wider
the sum is made, which is cheap. At low precision it never is: a small B A would be lost in the
rounding of W.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class LowRank(NamedTuple):
    """The term B A of rank R beside a matrix (out, in)."""

    a: Tensor  # (R, in)
    b: Tensor  # (out, R)

    @property
    def product(self) -> Tensor:
        """B A, (out, in), in float32 or wider."""
        wide = torch.promote_types(self.a.dtype, torch.float32)
        return self.b.to(wide) @ self.a.to(wide)


def linear(x: Tensor, weight: Tensor, bias: Tensor, term: LowRank | None) -> Tensor:
    """``x @ (weight + B A).T + bias``, (..., in) to (..., out); without a term PyTorch's own."""
    if term is None:
        return F.linear(x, weight, bias)
    rows = x.flatten(0, -2)
    if torch.is_grad_enabled():
        result: Tensor = _Linear.apply(rows, weight, bias, *term)  # type: ignore[no-untyped-call]
    else:
        result = _product(rows, weight, bias, *term)
    return result.view(*x.shape[:-1], -1)


def _product(x: Tensor, weight: Tensor, bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if _is_wide(x):
        return F.linear(x, torch.addmm(weight, b, a), bias)
    # The term first: what is added up last is rounded once, with the whole sum.
    return torch.addmm(bias, (a @ x.t()).t(), b.t().contiguous()).addmm_(x, weight.t())


def _is_wide(x: Tensor) -> bool:
    return x.dtype.itemsize >= torch.float32.itemsize


class _Linear(torch.autograd.Function):
    """The linear map with its gradients.

    Autograd's own backward pass would take twice the time for the term: its products of a long,
    narrow matrix run along the wrong side. Here the narrow one is always (R, N) for N rows of x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, a, b)
        return _product(x, weight, bias, a, b)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, a, b = ctx.saved_tensors
        narrow = b.t().contiguous() @ grad.t()  # (R, N)
        if _is_wide(x):
            of_x = grad @ torch.addmm(weight, b, a)
        else:
            of_x = (narrow.t() @ a).addmm_(grad, weight)
        of_bias = grad.sum(0) if ctx.needs_input_grad[2] else None
        if ctx.needs_input_grad[1]:  # whatever is low-rank follows from the large gradient
            of_weight = grad.t() @ x
            return of_x, of_weight, of_bias, b.t() @ of_weight, of_weight @ a.t()
        return of_x, None, of_bias, narrow @ x, ((a @ x.t()) @ grad).t()


_MORE_DIRECTIONS = 8
_POWER_ITERATIONS = 3


def nearest(matrix: Tensor, rank: int) -> LowRank:
    """The term of a rank that is nearest to a matrix: its truncated singular value decomposition.

    Found by randomised subspace iteration (Halko, Martinsson and Tropp 2011, arXiv 0909.4061,
    algorithm 4.4), from directions that are always the same. A matrix of up to twice that rank is
    treated exactly, to rounding; of any other the squared error is within 1 % of the least one
    (Eckart and Young 1936; tested).

    Args:
        matrix: (out, in).
        rank: R, at most the smaller side.

    Returns:
        The term in float32 or wider. The rows of A are orthogonal and as long as those that
        `initial_a` draws, also where the matrix is zero: a term with A = 0 and B = 0 could never
        train.
    """
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    directions = min(2 * rank + _MORE_DIRECTIONS, *matrix.shape)
    generator = torch.Generator(matrix.device).manual_seed(0)
    size = (matrix.shape[1], directions)
    right = torch.randn(size, generator=generator, dtype=matrix.dtype, device=matrix.device)
    right = torch.linalg.qr(right).Q
    for _ in range(_POWER_ITERATIONS):
        left = torch.linalg.qr(matrix @ right).Q
        right = torch.linalg.qr(matrix.t() @ left).Q
    u, s, vh = torch.linalg.svd(matrix @ right, full_matrices=False)
    a = (vh @ right.t())[:rank] * _ROW
    return LowRank(a, (u * s)[:, :rank] / _ROW)


_ROW = math.sqrt(1 / 3)
"""The length of a row of in numbers that are uniform between -1/sqrt(in) and 1/sqrt(in)."""


def initial_a(a: Tensor, generator: torch.Generator) -> None:
    """Draws A, (R, in), in place: uniform between -1/sqrt(in) and 1/sqrt(in), as LoRA's code does.

    Hu et al. 2021, arXiv 2106.09685; B = 0, so that the term is zero at first.
    """
    bound = 1 / math.sqrt(a.shape[1])
    a.uniform_(-bound, bound, generator=generator)
