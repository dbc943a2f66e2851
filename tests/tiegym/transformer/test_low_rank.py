"""Low-rank terms: their product with its gradients, and the nearest one to a matrix."""

import math

import pytest
import torch
import torch.nn.functional as F

from tiegym.transformer.low_rank import LowRank, initial_a, linear, nearest


def random(*size, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed + sum(size))
    return torch.randn(size, generator=generator, dtype=dtype)


@pytest.mark.parametrize("trained", [True, False])
def test_the_linear_map_has_the_values_and_gradients_of_the_summed_matrix(trained):
    x, weight, bias, a, b = random(2, 3, 8), random(6, 8), random(6), random(2, 8), random(6, 2)
    inputs = [x, weight, bias, a, b]
    inputs = [t.requires_grad_(trained or t is x or t is a or t is b) for t in inputs]
    result = linear(x, weight, bias, LowRank(a, b))
    expected = F.linear(x, weight + b @ a, bias)
    torch.testing.assert_close(result, expected)
    needed = [t for t in inputs if t.requires_grad]
    assert len(needed) == (5 if trained else 3)
    direction = random(*result.shape, seed=1)
    mine = torch.autograd.grad((result * direction).sum(), needed)
    its = torch.autograd.grad((expected * direction).sum(), needed)
    for left, right in zip(mine, its, strict=True):
        torch.testing.assert_close(left, right)


@pytest.mark.parametrize("rank", [1, 4, 16])
@pytest.mark.parametrize("size", [(96, 32), (64, 64), (32, 128)])
def test_the_nearest_term_is_within_one_percent_of_the_least_error(rank, size):
    """Of matrices whose singular values hardly fall, which are the hardest."""
    for seed in range(5):
        matrix = random(*size, seed=seed, dtype=torch.float32)
        found = nearest(matrix, rank)
        assert (found.a.shape, found.b.shape) == ((rank, size[1]), (size[0], rank))
        error = (matrix - found.product).square().sum()
        least = torch.linalg.svdvals(matrix)[rank:].square().sum()
        assert least * (1 - 1e-5) <= error <= 1.01 * least


def test_a_matrix_of_low_rank_is_found_to_rounding():
    matrix = random(40, 3) @ random(3, 30)
    torch.testing.assert_close(nearest(matrix, 3).product, matrix)
    torch.testing.assert_close(nearest(matrix, 7).product, matrix)


@pytest.mark.parametrize("matrix", [random(40, 30), torch.zeros(40, 30), torch.ones(40, 30)])
def test_rows_of_a_are_as_long_as_fresh_ones(matrix):
    a = nearest(matrix, 5).a
    torch.testing.assert_close(a @ a.T, torch.eye(5, dtype=a.dtype) / 3)
    drawn = torch.empty(2000, 30)
    initial_a(drawn, torch.Generator().manual_seed(0))
    assert drawn.square().sum(1).mean().item() == pytest.approx(1 / 3, rel=0.02)
    assert drawn.abs().max() <= 1 / math.sqrt(30)


def test_bfloat16_is_computed_in_float32():
    found = nearest(random(8, 8, dtype=torch.bfloat16), 2)
    assert found.a.dtype == found.b.dtype == torch.float32


def test_at_low_precision_a_term_that_is_small_beside_its_matrix_is_not_rounded_away():
    x = random(20_000, 64).bfloat16()
    weight, bias = torch.ones(1, 64).bfloat16(), torch.zeros(1).bfloat16()
    term = LowRank(torch.ones(1, 64).bfloat16(), torch.full((1, 1), 1e-3).bfloat16())
    assert torch.equal(weight + (term.b @ term.a), weight)
    exact = x.double().sum(1, keepdim=True)
    slopes = [
        (linear(x, weight, bias, t).double() * exact).sum() / exact.square().sum()
        for t in (None, term)
    ]
    assert slopes[1] - slopes[0] == pytest.approx(1e-3, rel=0.1)
