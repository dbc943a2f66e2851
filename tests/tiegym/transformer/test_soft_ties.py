"""Soft tie changes: what an untying and a tying do to what layers compute."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from tests.tiegym.private_reference import MATRICES
from tests.tiegym.transformer.test_private import build
from tests.tiegym.transformer.test_tying import batch, iterate, tie_vectors
from tiegym import ties as tie_vectors_module
from tiegym.transformer import tying


def effective(model):
    """W + B A of each layer and matrix."""
    return {
        (layer, name): (
            model.independent(root).get_parameter(f"{name}_weight")
            + model.private_part(layer).term(name).product
        ).detach()
        for layer, root in enumerate(model.roots)
        for name in MATRICES
    }


@settings(max_examples=40, deadline=None)
@given(tie_vectors(), tie_vectors())
def test_a_change_takes_no_more_than_the_best_term_must_leave(before, after):
    """Eckart and Young: at least the singular values beyond the rank."""
    model, optimizer = build(before, "lora:2")
    old, old_roots = effective(model), model.roots
    tying.retie(model, optimizer, after, soft=True)
    for (layer, name), now in effective(model).items():
        root, lost = model.roots[layer], old[layer, name] - now
        if root in (layer, old_roots[layer]):
            assert lost.abs().max() < 1e-12
            continue
        shared = model.independent(root).get_parameter(f"{name}_weight").detach()
        least = torch.linalg.svdvals(old[layer, name] - shared)[2:].square().sum().sqrt()
        assert lost.norm() == pytest.approx(least.item(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_untying_changes_no_output(dtype):
    model, optimizer = build([0, 0, 0, 0], "norms+scales+lora:2")
    model.to(dtype)
    model.compute_dtype = dtype
    before = model(batch(0)[0])
    tying.retie(model, optimizer, np.array([0, 0, 2, 0]), soft=True)
    torch.testing.assert_close(model(batch(0)[0]), before)
    for name in MATRICES:
        assert model.private_part(2).term(name).b.abs().max() == 0
        assert model.private_part(2).term(name).a.abs().max() > 0  # or it could never train again


def test_a_tying_that_fits_into_the_term_changes_no_output():
    model, optimizer = build([0, 0, 0, 0], "lora:2")
    tying.retie(model, optimizer, np.array([0, 0, 2, 0]), soft=True)
    before = model(batch(0)[0])
    tying.retie(model, optimizer, np.array([0, 0, 0, 0]), soft=True)
    torch.testing.assert_close(model(batch(0)[0]), before)


def test_a_tying_to_equal_weights_leaves_a_term_that_can_train():
    model, optimizer = build([0, 0, 0, 0], "lora:2")
    with torch.no_grad():
        for layer in range(4):
            for name in MATRICES:
                model.private_part(layer).term(name).b.zero_()
    tying.retie(model, optimizer, np.array([0, 1, 0, 0]), soft=True)
    tying.retie(model, optimizer, np.array([0, 0, 0, 0]), soft=True)
    iterate(model, optimizer, 0)
    assert all(model.private_part(1).term(name).b.abs().max() > 0 for name in MATRICES)


def test_terms_that_change_begin_with_fresh_moments_and_others_keep_theirs():
    model, optimizer = build([0, 0, 2, 0], "norms+lora:2")
    for seed in range(3):
        iterate(model, optimizer, seed)
    tying.retie(model, optimizer, np.array([0, 1, 0, 0]), soft=True)  # 1 leaves, 2 is tied
    for layer in range(4):
        for name, p in model.private_part(layer).named_parameters():
            fresh = layer in (1, 2) and name.endswith(("_a", "_b"))
            assert optimizer.state[p]["step"] == (0 if fresh else 3)
            assert (optimizer.state[p]["exp_avg"].abs().max() == 0) == fresh
    assert optimizer.state[model.independent(1).qkv_weight]["step"] == 3


def test_a_hard_change_leaves_terms_alone():
    model, optimizer = build([0, 0, 2, 0], "norms+scales+lora:2")
    before = [p.clone() for p in model.private.parameters()]
    tying.retie(model, optimizer, np.array([0, 1, 0, 0]))
    for mine, its in zip(model.private.parameters(), before, strict=True):
        assert torch.equal(mine, its)


def test_soft_changes_draw_from_no_global_generator_and_always_give_the_same():
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model, optimizer = build([0, 1, 2, 3], "lora:1")
        state = torch.get_rng_state()
        tying.retie(model, optimizer, np.array([0, 0, 1, 2]), soft=True)
        assert torch.equal(torch.get_rng_state(), state)
        results.append([p.clone() for p in model.parameters()])
    for mine, its in zip(*results, strict=True):
        assert torch.equal(mine, its)


def test_the_bytes_while_soft_ties_change_are_those_of_the_blocks_and_a_few_matrices():
    """No block is copied for it: a tying of all layers makes none."""
    made = []
    model, optimizer = build([0, 1, 2, 3], "lora:2")
    new_block = model.new_block
    model.new_block = lambda: made.append(1) or new_block()
    tying.retie(model, optimizer, tie_vectors_module.pattern("tied", 4), soft=True)
    assert made == []
