"""Gradients at single positions, against references whose layers all have their own copies."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiegym.plain_reference import PlainReference
from tests.tiegym.private_reference import PrivateReference
from tests.tiegym.transformer.test_tying import CLIP, LR, SHAPE, WEIGHT_DECAY, batch, tie_vectors
from tiegym import parts
from tiegym.features import FEATURES
from tiegym.transformer import tying
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.layer_stats import sampled
from tiegym.transformer.position_gradients import (
    agreement,
    first_order_changes,
    position_figures,
    positions_for,
    watching,
)

BOTH = ("agreement", "taylor")
L = SHAPE.n_layer


def build(vector, tie_grad="sum", private="none", **options):
    shape = Shape(**{**SHAPE.__dict__, "private": private})
    model = TiedTransformer(shape, np.array(vector), tie_grad, dtype=torch.float64, **options)
    model.initialize(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # larger than GPT-2's, so that layers matter
        for p in model.parameters():
            p.mul_(5).add_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    return model, optimizer


def watched(model, cursor, features=BOTH, seed=0):
    """What is watched in one backward pass."""
    model.zero_grad()
    gradients = positions_for(features, model, cursor)
    with watching(model, gradients):
        model.loss(*batch(seed)).backward()
    assert model.watch is None
    return gradients


def moving(ties, cursor):
    """The units that point at the cursor's in the end, itself included; by following pointers."""
    first = [unit - unit % L for unit in range(len(ties))]

    def passes(unit):
        while unit != cursor and first[unit] + ties[unit] != unit:
            unit = first[unit] + ties[unit]
        return unit == cursor

    return [unit for unit in range(len(ties)) if passes(unit)]


def check(model, gradients, cursor, gradient_at):
    """Compares with gradients (unit, name) -> tensor of a reference with copied weights."""
    roots, own = (
        model.roots,
        {u: dict(model.independent(u).named_parameters()) for u in model.roots},
    )
    expected = torch.ones(len(roots))
    if model.tie_grad == "sum":
        samples = {
            unit: torch.cat(
                [sampled(gradient_at(unit, n)) for n, p in own[root].items() if p.ndim == 2]
            )
            for unit, root in enumerate(roots)
        }
        for unit, root in enumerate(roots):
            if not model.frozen[root]:
                total = sum(samples[k] for k in range(len(roots)) if roots[k] == root)
                expected[unit] = F.cosine_similarity(samples[unit], total, dim=0)
        torch.testing.assert_close(agreement(model, gradients), expected, rtol=1e-4, atol=1e-5)
    change = torch.zeros(len(roots), dtype=torch.float64)
    for target in range(cursor - cursor % L, cursor):
        for unit in moving(model.ties.tolist(), cursor):
            for name, weight in own[roots[cursor]].items():
                step = (own[roots[target]][name] - weight).detach()
                change[target] += (gradient_at(unit, name) * step).sum()
    found = first_order_changes(model, gradients, cursor)
    torch.testing.assert_close(found, change.float(), rtol=1e-4, atol=1e-4)


@st.composite
def shared(draw, n_parts):
    """Ties of all units, which of them are frozen, and a cursor."""
    ties = np.concatenate([draw(tie_vectors()) for _ in range(n_parts)])
    own = [i for i, j in enumerate(parts.forest(ties, L)) if i == j]
    frozen = draw(st.lists(st.sampled_from(own), unique=True)) if draw(st.booleans()) else []
    cursor = draw(st.integers(0, L * n_parts - 1))
    return ties, [unit in frozen for unit in range(L * n_parts)], cursor


@pytest.mark.parametrize("n_parts", [1, 2])
@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_gradients_of_positions_are_those_of_copied_weights(n_parts, tie_grad, data):
    ties, frozen, cursor = data.draw(shared(n_parts))
    model, optimizer = build([*range(L)] * n_parts, tie_grad)
    tying.retie(model, optimizer, ties, frozen)
    reference = PlainReference(model, tie_grad, LR, WEIGHT_DECAY, CLIP)
    tokens, targets = batch(0)
    F.cross_entropy(reference.logits(tokens).flatten(0, 1), targets.flatten()).backward()
    features = BOTH if tie_grad == "sum" else ("taylor",)

    def gradient_at(unit, name):
        names = [n for n, _ in model.independent(model.roots[unit]).named_parameters()]
        library = dict(zip(names, reference.names_of(unit), strict=True))[name]
        return reference.weight(unit, library).grad

    check(model, watched(model, cursor, features), cursor, gradient_at)


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@pytest.mark.parametrize("private", ["norms", "norms+scales+lora:2"])
@settings(max_examples=10, deadline=None)
@given(ties=tie_vectors(), cursor=st.integers(0, L - 1))
def test_so_they_are_with_private_parts(private, tie_grad, ties, cursor):
    model, _ = build(ties, tie_grad, private)
    reference = PrivateReference(model, tie_grad, False, LR, WEIGHT_DECAY, CLIP)
    for p in reference.weights().values():
        p.requires_grad_()
    tokens, targets = batch(0)
    F.cross_entropy(reference.logits(tokens).flatten(0, 1), targets.flatten()).backward()
    features = BOTH if tie_grad == "sum" else ("taylor",)
    gradients = watched(model, cursor, features)
    check(model, gradients, cursor, lambda unit, name: reference.shared[unit][name].grad)


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@pytest.mark.parametrize(
    ("ties", "cursor", "after"),
    [
        ([0, 0, 2, 2], 3, [0, 0, 2, 1]),
        ([0, 1, 2, 2], 2, [0, 1, 1, 2]),  # layer 3 follows
        ([0, 0, 1, 2], 1, [0, 0, 1, 2]),
        (
            [0, 1, 1, 2],
            2,
            [0, 1, 0, 2],
        ),  # of two layers that change, neither has weights of its own
    ],
)
def test_the_first_order_change_is_the_slope_of_the_loss(ties, cursor, after, tie_grad):
    model, optimizer = build([0, 1, 2, 3], tie_grad)
    size = 1e-4
    with torch.no_grad():  # weights so close to each other that the loss between them is straight
        for layer in range(1, 4):
            for p, first in zip(
                model.independent(layer).parameters(),
                model.independent(0).parameters(),
                strict=True,
            ):
                p.sub_(first).mul_(size).add_(first)
    tying.retie(model, optimizer, np.array(ties))
    gradients = watched(model, cursor, ("taylor",))
    predicted = first_order_changes(model, gradients, cursor)[after[cursor]].item()
    before = model.loss(*batch(0)).item()
    tying.retie(model, optimizer, np.array(after))
    change = model.loss(*batch(0)).item() - before
    assert abs(change) > 1e-7 or ties == after
    assert predicted == pytest.approx(change, rel=0.01, abs=1e-12)


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@pytest.mark.parametrize(
    "options", [{}, {"checkpoint_activations": True}, {"dropout": 0.3}], ids=str
)
@pytest.mark.parametrize("ties", [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 2, 3] * 2, [0, 0, 2, 1] * 2])
def test_watching_changes_no_bit_of_a_gradient(ties, options, tie_grad):
    seen = []
    for features in (FEATURES, BOTH if tie_grad == "sum" else ("taylor",)):
        model, _ = build(ties, tie_grad, **options)
        model.dropout_generator = torch.Generator().manual_seed(0)
        watched(model, 3, features)
        seen.append([p.grad for p in model.parameters()])
    for plain, other in zip(*seen, strict=True):
        assert torch.equal(plain, other)


def test_in_bfloat16_the_figures_are_those_of_float32_up_to_rounding():
    figures = []
    for dtype in (torch.float32, torch.bfloat16):
        model = TiedTransformer(SHAPE, np.array([0, 0, 2, 2]), "sum", compute_dtype=dtype)
        model.initialize(0)
        figures.append(position_figures(model, watched(model, 3), 3))
    for name, figure in figures[0].items():
        assert figures[1][name].dtype == torch.float32
        torch.testing.assert_close(figures[1][name], figure, rtol=0.1, atol=0.02)
        assert (figure != 0).any()


def test_several_backward_passes_add_up():
    model, _ = build([0, 0, 0, 0])
    gradients = positions_for(BOTH, model, 2)
    tokens, targets = batch(0)
    with watching(model, gradients):
        for k in range(3):
            (model.loss(tokens[k : k + 1], targets[k : k + 1]) / 3).backward()
    at_once = watched(model, 2)
    for name, gradient in at_once.whole.items():
        torch.testing.assert_close(gradients.whole[name], gradient)
    torch.testing.assert_close(agreement(model, gradients), agreement(model, at_once))


def test_clipping_afterwards_changes_nothing_that_was_kept():
    model, _ = build([0, 1, 2, 3])
    gradients = watched(model, 2)
    kept = {name: gradient.clone() for name, gradient in gradients.whole.items()}
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    assert all(torch.equal(gradients.whole[name], g) for name, g in kept.items())


def test_a_layer_alone_agrees_with_itself_and_so_does_what_is_frozen():
    model, optimizer = build([0, 0, 2, 3])
    tying.retie(model, optimizer, np.array([0, 0, 2, 2]), [False, False, True, False])
    found = agreement(model, watched(model, 1))
    assert found[2:].tolist() == [1, 1]
    assert (found[:2] < 1).all()


def test_opposite_gradients_disagree_and_equal_ones_agree():
    model, _ = build([0, 0, 0, 0])
    gradients = positions_for(("agreement",), model, 0)
    for unit, size in enumerate((1.0, 1.0, 3.0, -1.0)):
        gradients.samples[unit] = {"qkv_weight": torch.full((5,), size)}
    assert agreement(model, gradients).tolist() == pytest.approx([1, 1, 1, -1])


def test_the_default_features_watch_nothing():
    model, _ = build([0, 0, 2, 2])
    assert positions_for(FEATURES, model, 1) is None
    assert position_figures(model, None, 1) == {}


def test_an_error_in_between_leaves_nothing_watched():
    model, _ = build([0, 0, 2, 2])
    with pytest.raises(MemoryError), watching(model, positions_for(BOTH, model, 1)):
        raise MemoryError
    assert model.watch is None
