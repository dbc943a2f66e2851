"""Tensor trains: against a dense sum over all ranks, and as an approximation of matrices."""

import math

import pytest
import torch

from tiegym.compression import core_sizes, largest_rank
from tiegym.transformer import tensor_train

SIZES = [(24, 8), (8, 8), (32, 8), (8, 32)]
"""Of the four matrices of a block of width 8."""


def drawn(*size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*size, generator=generator, dtype=torch.float64)


def dense(cores):
    tensor = torch.einsum("aib,bjc,ckd,dle,emf,fng->ijklmn", *cores)
    return tensor.reshape(math.prod(tensor.shape[:3]), -1)


@pytest.mark.parametrize(("out", "into"), SIZES)
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_the_matrix_is_the_sum_over_all_ranks(out, into, rank):
    cores = [drawn(*size, seed=k) for k, size in enumerate(core_sizes(out, into, rank))]
    matrix = tensor_train.contracted(cores)
    assert matrix.shape == (out, into)
    torch.testing.assert_close(matrix, dense(cores))
    assert torch.linalg.matrix_rank(matrix) == min(rank, 8)


@pytest.mark.parametrize(("out", "into"), SIZES)
def test_the_full_rank_gives_any_matrix(out, into):
    matrix = drawn(out, into)
    cores = tensor_train.nearest(matrix, largest_rank(8))
    torch.testing.assert_close(tensor_train.contracted(cores), matrix)
    sizes = [core.square().mean().sqrt().item() for core in cores]
    assert sizes == pytest.approx([sizes[0]] * 6)


@pytest.mark.parametrize(("out", "into"), SIZES)
def test_a_train_of_a_rank_is_found_again(out, into):
    cores = [drawn(*size, seed=k) for k, size in enumerate(core_sizes(out, into, 3))]
    again = tensor_train.nearest(dense(cores), 3)
    assert [c.shape for c in again] == [c.shape for c in cores]
    torch.testing.assert_close(tensor_train.contracted(again), dense(cores))


def test_the_error_falls_with_the_rank_and_is_bounded_by_the_singular_values():
    matrix, errors = drawn(24, 8), []
    for rank in range(1, 9):
        cores = tensor_train.nearest(matrix, rank)
        errors.append((tensor_train.contracted(cores) - matrix).norm().item())
        modes = [core.shape[1] for core in cores]
        lost = [  # what each cut alone loses; together they bound the error
            torch.linalg.svdvals(matrix.reshape(math.prod(modes[:k]), -1))[rank:].square().sum()
            for k in range(1, 6)
        ]
        assert errors[-1] ** 2 <= sum(lost) + 1e-12
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1


def test_of_a_matrix_of_zeros_the_train_is_zero_and_can_train():
    cores = tensor_train.nearest(torch.zeros(24, 8), 3)
    assert torch.equal(tensor_train.contracted(cores), torch.zeros(24, 8))
    last = cores[-1].requires_grad_()
    tensor_train.contracted(cores).pow(2).add(tensor_train.contracted(cores)).sum().backward()
    assert last.grad.abs().max() > 0


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_drawn_cores_give_a_matrix_of_the_standard_deviation(rank):
    generator, squares = torch.Generator().manual_seed(0), []
    for _ in range(400):
        cores = [torch.empty(size) for size in core_sizes(48, 16, rank)]
        for core in cores:
            tensor_train.draw_core(core, 0.02, generator)
        squares.append(tensor_train.contracted(cores).square().mean())
    assert torch.stack(squares).mean().sqrt().item() == pytest.approx(0.02, rel=0.2)


def test_bfloat16_cores_are_multiplied_in_float32_and_rounded_once():
    cores = [drawn(*size, seed=k).bfloat16() for k, size in enumerate(core_sizes(24, 8, 3))]
    matrix = tensor_train.contracted(cores)
    assert matrix.dtype == torch.bfloat16
    assert torch.equal(matrix, tensor_train.contracted([c.float() for c in cores]).bfloat16())
