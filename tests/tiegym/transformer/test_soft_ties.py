"""Soft tie changes: what an untying and a tying do to what layers compute."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiegym.private_reference import MATRICES
from tests.tiegym.transformer.test_private import build
from tests.tiegym.transformer.test_tying import batch, iterate, tie_vectors
from tiegym import ties
from tiegym.transformer import tying


def effective(model):
    """W + B A of each layer and matrix."""
    return {
        (layer, name): (
            getattr(model.shared_weights(layer), f"{name}_weight")
            + model.private_part(layer).term(name).product
        ).detach()
        for layer in range(model.shape.n_layer)
        for name in MATRICES
    }


def root_of(model, layer, name):
    """The unit whose matrix of this name a layer uses; with one part, a layer."""
    mlp = model.n_parts == 2 and name.startswith("mlp")
    return model.roots[layer + mlp * model.shape.n_layer] % model.shape.n_layer


def ties_of(n_parts):
    return st.tuples(*[tie_vectors()] * n_parts).map(np.concatenate)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), n_parts=st.sampled_from([1, 2]))
def test_a_change_takes_no_more_than_the_best_term_must_leave(data, n_parts):
    """Eckart and Young: at least the singular values beyond the rank."""
    model, optimizer = build(data.draw(ties_of(n_parts)), "lora:2")
    old = effective(model)
    old_roots = {key: root_of(model, *key) for key in old}
    tying.retie(model, optimizer, data.draw(ties_of(n_parts)), soft=True)
    for (layer, name), now in effective(model).items():
        root, lost = root_of(model, layer, name), old[layer, name] - now
        if root in (layer, old_roots[layer, name]):
            assert lost.abs().max() < 1e-12
            continue
        shared = getattr(model.shared_weights(layer), f"{name}_weight").detach()
        least = torch.linalg.svdvals(old[layer, name] - shared)[2:].square().sum().sqrt()
        assert lost.norm() == pytest.approx(least.item(), rel=1e-9, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(start=tie_vectors(), sequence=st.lists(tie_vectors(), min_size=1, max_size=4))
def test_parts_that_share_alike_train_as_whole_blocks(start, sequence):
    runs = {}
    for n_parts in (1, 2):
        model, optimizer = build(np.tile(start, n_parts), "norms+scales+lora:2")
        for seed, vector in enumerate(sequence):
            tying.retie(model, optimizer, np.tile(vector, n_parts), soft=True)
            iterate(model, optimizer, seed)
        runs[n_parts] = [effective(model), model(batch(99)[0])]
    for key, its in runs[1][0].items():
        torch.testing.assert_close(runs[2][0][key], its, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(*(run[1] for run in runs.values()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_untying_changes_no_output(dtype):
    model, optimizer = build([0, 0, 0, 0], "norms+scales+lora:2")
    model.to(dtype)
    model.compute_dtype = dtype
    before = model(batch(0)[0])
    tying.retie(model, optimizer, np.array([0, 0, 2, 0]), soft=True)
    torch.testing.assert_close(model(batch(0)[0]), before)
    assert not torch.equal(model.independent(2).qkv_weight, model.independent(0).qkv_weight)
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
    model.new_block = lambda unit=0: made.append(unit) or new_block(unit)
    tying.retie(model, optimizer, ties.pattern("tied", 4), soft=True)
    assert made == []
