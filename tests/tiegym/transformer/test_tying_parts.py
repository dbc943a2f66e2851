"""Parts that share weights apart, and weights that train no more, against a plain reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiegym.plain_reference import PlainReference
from tests.tiegym.transformer.test_tying import (
    CLIP,
    LR,
    SHAPE,
    WEIGHT_DECAY,
    batch,
    build,
    iterate,
    optimizer_bytes,
)
from tiegym import parts
from tiegym.transformer import tying
from tiegym.transformer.block import PART_WEIGHTS, Shape
from tiegym.transformer.gpt import TiedTransformer

L = SHAPE.n_layer


@st.composite
def states(draw, n_parts):
    """Ties of all units, and which of those with weights of their own are frozen."""
    ties = [draw(st.integers(0, i)) for _ in range(n_parts) for i in range(L)]
    may = [target == i % L for i, target in enumerate(ties)]
    return np.array(ties), [own and draw(st.booleans()) for own in may]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from([1, 2]), st.sampled_from(["owner", "sum"]))
def test_training_under_changing_parts_and_frozen_ones_equals_the_plain_reference(
    data, n_parts, tie_grad
):
    start, _ = data.draw(states(n_parts))
    model, optimizer = build(start, tie_grad)
    reference = PlainReference(model, tie_grad, LR, WEIGHT_DECAY, CLIP)
    for k in range(data.draw(st.integers(1, 5))):
        ties, frozen = data.draw(states(n_parts))
        tying.retie(model, optimizer, ties, frozen)
        reference.retie(ties, frozen)
        for seed in (10 * k, 10 * k + 1):
            loss = iterate(model, optimizer, seed)
            assert loss == pytest.approx(reference.iterate(*batch(seed)), abs=1e-9)
        assert model.ties.tolist() == ties.tolist()
        assert model.frozen == frozen
        check_what_is_held(model, optimizer)
        check_moments(model, optimizer, reference)
    tokens, _ = batch(99)
    torch.testing.assert_close(model(tokens), reference.logits(tokens), rtol=1e-6, atol=1e-8)


def check_what_is_held(model, optimizer):
    """Weights once for each unit of its own; gradients and moments for what trains alone."""
    ties, frozen = model.ties, model.frozen
    own = sorted(set(model.roots))
    assert len(own) == parts.n_independent(ties, L)
    pointers = {p.untyped_storage().data_ptr() for p in model.parameters()}
    names = [PART_WEIGHTS["block"]] if model.n_parts == 1 else [*PART_WEIGHTS.values()][1:]
    assert len(pointers) == 4 + sum(len(names[unit // L]) for unit in own)
    trained = SHAPE.params(*parts.trained(ties, frozen, L))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained
    tensors = 4 + sum(len(names[unit // L]) for unit in own if not frozen[unit])
    assert optimizer_bytes(optimizer) == 2 * 8 * trained + 4 * tensors
    every = sum(p.numel() for p in model.parameters())
    expected = 8 * every + 3 * 8 * trained + 4 * tensors
    assert tying.model_state_bytes(model, optimizer) == expected
    for unit in own:
        for p in model.independent(unit).parameters():
            assert (p.grad is None) == (p not in optimizer.state) == frozen[unit]
    (group,) = optimizer.param_groups
    assert group["params"] == [p for p in model.parameters() if p.requires_grad]


def check_moments(model, optimizer, reference):
    for unit in set(model.roots):
        weights = model.independent(unit).parameters()
        for name, p in zip(reference.names_of(unit), weights, strict=True):
            if model.frozen[unit]:
                assert (unit, name) not in reference.moments
                continue
            step, first, second = reference.moments[unit, name]
            state = optimizer.state[p]
            assert state["step"] == step
            torch.testing.assert_close(state["exp_avg"], first, rtol=1e-5, atol=1e-9)
            torch.testing.assert_close(state["exp_avg_sq"], second, rtol=1e-5, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(["owner", "sum"]))
def test_parts_with_the_same_ties_are_whole_blocks_bit_by_bit(data, tie_grad):
    vectors = data.draw(st.lists(states(1), min_size=2, max_size=4))
    blocks, apart = build(vectors[0][0], tie_grad), build(np.tile(vectors[0][0], 2), tie_grad)
    for seed, (ties, frozen) in enumerate(vectors):
        tying.retie(*blocks, ties, frozen)
        tying.retie(*apart, np.tile(ties, 2), frozen * 2)
        assert iterate(*blocks, seed) == iterate(*apart, seed)
    names = [[n for n, _ in model.named_parameters()] for model, _ in (blocks, apart)]
    plain = [n.replace("_attention.", ".").replace("_mlp.", ".") for n in names[1]]
    assert plain == names[0]
    for mine, its in zip(blocks[0].parameters(), apart[0].parameters(), strict=True):
        assert torch.equal(mine, its)


def test_a_layers_initial_values_are_the_same_whether_or_not_its_parts_share_apart():
    whole, apart = (TiedTransformer(SHAPE, np.tile(np.arange(L), n)) for n in (1, 2))
    tied = TiedTransformer(SHAPE, np.array([0, 0, 0, 0, 0, 1, 0, 3]))  # the MLPs of 0, 1 and 3
    for model in (whole, apart, tied):
        model.initialize(5)
    for layer in (0, 1, 3):
        expected = whole.independent(layer).mlp_in_weight
        assert torch.equal(apart.independent(L + layer).mlp_in_weight, expected)
        assert torch.equal(tied.independent(L + layer).mlp_in_weight, expected)


def test_the_parameters_of_the_parts_are_those_of_a_block():
    for width in (8, 24):
        shape = Shape(11, 4, 2, width, 6)
        counts = {}
        for part in ("attention", "mlp", "block"):
            ties = np.zeros(4 if part == "block" else 8, dtype=np.int64)
            model = TiedTransformer(shape, ties)
            names = PART_WEIGHTS[part]
            counts[part] = sum(
                p.numel() for n, p in model.named_parameters() if n.rpartition(".")[2] in names
            )
        assert counts["attention"] == shape.attention_params
        assert counts["block"] == shape.block_params == counts["attention"] + counts["mlp"]


def test_what_is_frozen_does_not_move_and_what_trains_again_begins_with_fresh_moments():
    model, optimizer = build([0, 1, 2, 3])
    for seed in range(3):
        iterate(model, optimizer, seed)
    held = [p.clone() for p in model.independent(2).parameters()]
    tensors = list(model.independent(2).parameters())
    tying.retie(model, optimizer, model.ties, [False, False, True, False])
    before = tying.model_state_bytes(model, optimizer)
    for seed in range(3):
        iterate(model, optimizer, seed)
    # The same tensors with the same values: 8 bytes a number here instead of 32.
    assert list(model.independent(2).parameters()) == tensors
    assert all(torch.equal(p, h) for p, h in zip(tensors, held, strict=True))
    assert tying.model_state_bytes(model, optimizer) == before
    tying.retie(model, optimizer, model.ties)
    assert not any(p in optimizer.state for p in tensors)
    iterate(model, optimizer, 9)
    assert {optimizer.state[p]["step"].item() for p in tensors} == {1}
    assert {s["step"].item() for s in optimizer.state.values()} == {1, 7}


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_what_is_tied_to_frozen_weights_gets_no_gradient_and_unties_without_moments(tie_grad):
    model, optimizer = build([0, 1, 1, 1], tie_grad)
    iterate(model, optimizer, 0)
    tying.retie(model, optimizer, model.ties, [False, True, False, False])
    held = [p.clone() for p in model.independent(1).parameters()]
    iterate(model, optimizer, 1)
    assert all(p.grad is None for p in model.independent(1).parameters())
    tying.retie(model, optimizer, np.array([0, 1, 2, 1]), [False, True, False, False])
    clone = list(model.independent(2).parameters())
    assert all(torch.equal(p, h) for p, h in zip(clone, held, strict=True))
    assert not any(p in optimizer.state for p in clone)


def test_a_frozen_heir_leaves_the_moments_to_another_layer_that_left_with_it():
    model, optimizer = build([0, 1, 1, 1])
    iterate(model, optimizer, 0)
    moments = [optimizer.state[p]["exp_avg"].clone() for p in model.independent(1).parameters()]
    tying.retie(model, optimizer, np.array([0, 0, 2, 3]), [False, False, True, False])
    assert not any(p in optimizer.state for p in model.independent(2).parameters())
    pairs = zip(model.independent(3).parameters(), moments, strict=True)
    assert all(torch.equal(optimizer.state[p]["exp_avg"], m) for p, m in pairs)


def test_the_present_state_again_changes_nothing():
    model, optimizer = build([0, 1, 1, 3, 0, 0, 2, 2])
    frozen = [False, True, False, False, True, False, False, False]
    tying.retie(model, optimizer, model.ties, frozen)
    iterate(model, optimizer, 0)
    before, state = list(model.parameters()), list(optimizer.state)
    values = [p.clone() for p in before]
    tying.retie(model, optimizer, model.ties, frozen)
    assert list(model.parameters()) == before
    assert list(optimizer.state) == state
    assert all(torch.equal(p, v) for p, v in zip(before, values, strict=True))


@pytest.mark.parametrize(
    ("ties", "frozen", "message"),
    [
        ([0, 1, 1, 3], [False, False, True, False], r"frozen=\[2\] names units that are tied"),
        ([0, 1, 1, 3] * 2, None, "has 8 entries, but there are 4 layers"),
    ],
)
def test_what_can_not_be_is_refused_and_nothing_is_changed(ties, frozen, message):
    model, optimizer = build([0, 0, 0, 0])
    with pytest.raises(ValueError, match=message):
        tying.retie(model, optimizer, np.array(ties), frozen)
    assert model.roots == [0, 0, 0, 0]


def test_a_model_of_parts_refuses_the_ties_of_blocks():
    model, optimizer = build([0] * 8)
    with pytest.raises(ValueError, match="4 layers of 2 parts: give 8, those of the attention"):
        tying.retie(model, optimizer, np.array([0, 0, 0, 0]))
