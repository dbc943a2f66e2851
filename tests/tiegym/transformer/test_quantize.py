"""Learned step size quantisation: against its formulas, number by number."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiegym.transformer import quantize


def test_a_tensor_is_used_as_multiples_of_its_step_within_bounds():
    w = torch.tensor([[0.0, 0.24, 0.26, -0.26], [0.75, -1.25, 9.0, -9.0]], dtype=torch.float64)
    expected = [[0.0, 0.0, 0.5, -0.5], [1.0, -1.0, 3.5, -4.0]]  # half to even: 1.5 to 2, -2.5 to -2
    log_step = torch.tensor(math.log(0.5), dtype=torch.float64)
    result = quantize.quantized(w, log_step, 4)
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64))
    assert quantize.codes(w, log_step, 4).tolist() == [[0, 0, 1, -1], [2, -2, 7, -8]]


def test_gradients_are_those_of_the_paper_by_hand():
    """Three weights: one inside, one beyond either bound; loss = sum of c times what is used."""
    w = torch.tensor([0.3, 5.0, -5.0], dtype=torch.float64, requires_grad=True)
    s = 0.5
    log_step = torch.tensor(math.log(s), dtype=torch.float64, requires_grad=True)
    c = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    (quantize.quantized(w, log_step, 4) * c).sum().backward()
    assert w.grad.tolist() == [1.0, 0.0, 0.0]
    of_step = 1.0 * (round(0.3 / s) - 0.3 / s) + 10.0 * 7 + 100.0 * -8
    scale = 1 / math.sqrt(3 * 7)
    assert log_step.grad.item() == pytest.approx(s * scale * of_step)  # d/d ln s is s d/ds


def straight_through(w, log_step, bits):
    """The same written with autograd's own operations: what it should ignore is detached."""
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    s, g = log_step.exp(), 1 / math.sqrt(w.numel() * high)
    s = (s - s * g).detach() + s * g
    x = (w / s).clamp(low, high)
    return ((x.round() - x).detach() + x) * s


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([4, 8]), st.floats(-6, 1))
def test_gradients_are_those_that_autograd_gives_a_straight_through_rounding(seed, bits, log):
    generator = torch.Generator().manual_seed(seed)
    w, c = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    found = []
    for function in (quantize.quantized, straight_through):
        mine = w.clone().requires_grad_()
        log_step = torch.tensor(log, dtype=torch.float64, requires_grad=True)
        result = function(mine, log_step, bits)
        (result * c).sum().backward()
        found.append((result.detach(), mine.grad, log_step.grad))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_of_the_step_is_the_slope_of_the_loss_where_nothing_is_rounded_over():
    """Beyond the bounds the output is a bound times s: there the gradient is no estimate."""
    w = torch.tensor([50.0, -70.0, 90.0], dtype=torch.float64)
    c = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64)
    log_step = torch.tensor(-0.3, dtype=torch.float64, requires_grad=True)

    def loss(log_step):
        return (quantize.quantized(w, log_step, 4) * c).sum()

    loss(log_step).backward()
    with torch.no_grad():
        slope = (loss(log_step + 1e-6) - loss(log_step - 1e-6)) / 2e-6
    assert log_step.grad.item() * math.sqrt(3 * 7) == pytest.approx(slope.item(), rel=1e-6)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_step_begins_as_in_the_paper(bits):
    w = torch.tensor([[1.0, -3.0], [0.0, 4.0]])
    s = quantize.initial_log_step(w, bits).exp().item()
    assert s == pytest.approx(2 * 2.0 / math.sqrt({4: 7, 8: 127}[bits]))


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_that_are_all_zero_stay_zero(bits):
    log_step = quantize.initial_log_step(torch.zeros(3, 3), bits)
    assert torch.isfinite(log_step)
    assert torch.equal(quantize.quantized(torch.zeros(3, 3), log_step, bits), torch.zeros(3, 3))


@pytest.mark.parametrize("size", [(8,), (3, 5), (1, 1), (2, 3, 4)])
def test_four_bits_are_two_numbers_a_byte_and_come_back(size):
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(-8, 8, size, generator=generator, dtype=torch.int8)
    halves = quantize.packed(numbers)
    assert halves.dtype == torch.uint8
    assert halves.shape == (math.ceil(numbers.numel() / 2),)
    assert torch.equal(quantize.unpacked(halves, numbers.shape), numbers)
    first, second = quantize.packed(torch.tensor([-8, 7, 1], dtype=torch.int8)).tolist()
    assert (first, second) == (0 + 16 * 15, 9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([4, 8]), st.floats(-20, 20))
def test_what_integers_and_step_make_is_used_as_it_is(seed, bits, log):
    """The small form is exact: rounding what was rounded changes no bit."""
    low, high = quantize.bounds(bits)
    log_step = torch.tensor(log, dtype=torch.float32)
    w = torch.randn(400, generator=torch.Generator().manual_seed(seed)) * log_step.exp() * high
    numbers = quantize.codes(w, log_step, bits)
    assert numbers.min() >= low
    assert numbers.max() <= high
    stored = numbers.float() * log_step.exp()
    assert torch.equal(quantize.quantized(stored, log_step, bits), stored)
    assert torch.equal(quantize.quantized(w, log_step, bits), stored)


def test_what_is_no_number_becomes_zero():
    w = torch.tensor([math.nan, math.inf, -math.inf, 1.0])
    assert quantize.codes(w, torch.tensor(0.0), 4).tolist() == [0, 7, -8, 1]
    assert quantize.codes(w, torch.tensor(math.nan), 8).tolist() == [0, 0, 0, 0]
