"""Tying during training, against a plain reference and as properties over random sequences."""

import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiegym.plain_reference import LIBRARY_NAMES, PlainReference
from tiegym import ties
from tiegym.transformer import tying
from tiegym.transformer.block import Block, BlockWeights, Shape
from tiegym.transformer.gpt import TiedTransformer

SHAPE = Shape(vocab_size=11, n_layer=4, n_head=2, n_embd=8, block_size=6)
LR, WEIGHT_DECAY, CLIP = 1e-2, 0.1, 0.5


def tie_vectors(n_layer=SHAPE.n_layer):
    return st.tuples(*(st.integers(0, i) for i in range(n_layer))).map(np.array)


def batch(seed):
    tokens = np.random.default_rng(seed).integers(SHAPE.vocab_size, size=(2, 3, 7))
    return torch.from_numpy(tokens[0][:, :-1]), torch.from_numpy(tokens[0][:, 1:])


def build(vector, tie_grad="owner", seed=0):
    model = TiedTransformer(SHAPE, vector, tie_grad, dtype=torch.float64)
    model.initialize(seed)
    with torch.no_grad():  # larger than GPT-2's, so that layers matter
        for p in model.parameters():
            p.mul_(5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
    return model, optimizer


def iterate(model, optimizer, seed):
    optimizer.zero_grad()
    loss = model.loss(*batch(seed))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    return loss.item()


def storages(model, name="qkv_weight"):
    return {p.untyped_storage().data_ptr() for n, p in model.named_parameters() if n.endswith(name)}


def optimizer_bytes(optimizer):
    values = [v for state in optimizer.state.values() for v in state.values()]
    return sum(v.numel() * v.element_size() for v in values)


def needed_optimizer_bytes(n_independent):
    tensors = 4 + 12 * n_independent
    return 2 * 8 * SHAPE.params(n_independent) + 4 * tensors


@settings(max_examples=40, deadline=None)
@given(
    start=tie_vectors(),
    sequence=st.lists(tie_vectors(), min_size=1, max_size=5),
    tie_grad=st.sampled_from(["owner", "sum"]),
)
def test_training_under_changing_ties_equals_the_plain_reference(start, sequence, tie_grad):
    model, optimizer = build(start, tie_grad)
    reference = PlainReference(model, tie_grad, LR, WEIGHT_DECAY, CLIP)
    for k, vector in enumerate(sequence):
        tying.retie(model, optimizer, vector)
        reference.retie(vector)
        for seed in (10 * k, 10 * k + 1):
            loss = iterate(model, optimizer, seed)
            assert loss == pytest.approx(reference.iterate(*batch(seed)), abs=1e-9)
        n = ties.n_independent(vector)
        assert len(storages(model)) == len(storages(model, "mlp_out_bias")) == n
        assert optimizer_bytes(optimizer) == needed_optimizer_bytes(n)
        assert sum(p.numel() for p in model.parameters()) == SHAPE.params(n)
    tokens, _ = batch(99)
    torch.testing.assert_close(model(tokens), reference.logits(tokens), rtol=1e-6, atol=1e-8)
    for layer, root in enumerate(model.roots):
        copied = [reference.layers[layer].get_parameter(name) for name in LIBRARY_NAMES]
        copied = [p.detach().clone() for p in copied]
        own = BlockWeights(*(p.detach().clone() for p in model.independent(root).weights))
        for name, mine, its in zip(own._fields, own, copied, strict=True):
            if name == "qkv_bias":  # the keys' has no gradient: AdamW amplifies its rounding
                keys = slice(SHAPE.n_embd, 2 * SHAPE.n_embd)
                mine[keys], its[keys] = 0, 0
            torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-7)


def test_the_present_state_again_changes_nothing():
    model, optimizer = build([0, 0, 2, 1])
    iterate(model, optimizer, 0)
    before = {p: p.clone() for p in model.parameters()}
    state = {p: {k: v.clone() for k, v in s.items()} for p, s in optimizer.state.items()}
    tying.retie(model, optimizer, model.ties)
    assert list(before) == list(model.parameters())  # the same tensors, not equal ones
    assert list(state) == list(optimizer.state)
    for p, values in state.items():
        assert torch.equal(p, before[p])
        for key, value in values.items():
            assert torch.equal(optimizer.state[p][key], value)


def test_untying_clones_weights_and_moments_of_the_root():
    model, optimizer = build([0, 0, 0, 0])
    for seed in range(3):
        iterate(model, optimizer, seed)
    tying.retie(model, optimizer, np.array([0, 0, 2, 0]))
    root, clone = model.independent(0), model.independent(2)
    for mine, its in zip(clone.parameters(), root.parameters(), strict=True):
        assert torch.equal(mine, its)
        assert mine.data_ptr() != its.data_ptr()
        for key, value in optimizer.state[its].items():
            assert torch.equal(optimizer.state[mine][key], value)
            assert optimizer.state[mine][key].data_ptr() != value.data_ptr()
    iterate(model, optimizer, 4)
    assert not torch.equal(clone.qkv_weight, root.qkv_weight)


def test_tying_a_root_takes_its_followers_along():
    model, optimizer = build([0, 1, 1, 2])
    assert model.roots == [0, 1, 1, 1]
    tying.retie(model, optimizer, np.array([0, 0, 1, 2]))
    assert model.roots == [0, 0, 0, 0]


def test_untying_a_layer_takes_its_followers_along():
    model, optimizer = build([0, 0, 1, 2])
    tying.retie(model, optimizer, np.array([0, 1, 1, 2]))
    assert model.roots == [0, 1, 1, 1]


def test_simultaneous_changes_clone_the_weights_before_them():
    model, optimizer = build([0, 1, 1, 3])
    old = model.independent(1).qkv_weight.clone()
    tying.retie(model, optimizer, np.array([0, 0, 2, 0]))  # 1 is tied while 2 leaves it
    assert torch.equal(model.independent(2).qkv_weight, old)
    assert model.roots == [0, 0, 2, 0]


@pytest.mark.parametrize("history", [[[0, 0, 0, 0], [0, 1, 2, 3]], [[0, 1, 0, 3], [0, 1, 2, 3]]])
def test_the_order_of_parameters_does_not_depend_on_the_history(history):
    model, optimizer = build(history[0])
    for vector in history[1:]:
        tying.retie(model, optimizer, np.array(vector))
    names = [name for name, _ in model.named_parameters()]
    fresh = [name for name, _ in build(history[-1])[0].named_parameters()]
    assert names == fresh
    (group,) = optimizer.param_groups
    assert group["params"] == list(model.parameters())


def test_owner_gradients_store_no_input_for_tied_positions():
    """Counts what autograd keeps: a linear layer's input is kept only for a weight gradient."""

    def saved(tie_grad):
        model, _ = build([0, 0, 0, 0], tie_grad)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append(t.numel()) or t, lambda t: t
        ):
            model.loss(*batch(0))
        return sum(sizes)

    tokens = batch(0)[0].numel()
    kept_inputs = (SHAPE.n_layer - 1) * tokens * (1 + 1 + 1 + 4) * SHAPE.n_embd
    assert saved("sum") - saved("owner") >= kept_inputs


def test_model_state_is_counted_as_expected_before_it_exists():
    for vector in ([0, 0, 0, 0], [0, 1, 0, 3]):
        model, optimizer = build(vector)
        iterate(model, optimizer, 0)
        n = ties.n_independent(np.array(vector))
        expected = tying.expected_state_bytes(SHAPE, n, torch.float64)
        assert tying.model_state_bytes(model, optimizer) == expected


@given(start=tie_vectors(), sequence=st.lists(tie_vectors(), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_even_while_ties_change_there_are_never_more_blocks_than_before_or_after(start, sequence):
    alive, counts = weakref.WeakSet(), []

    class Counted(Block):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            alive.add(self)
            counts.append(len(alive))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiegym.transformer.gpt.Block", Counted)
        model, optimizer = build(start)
        iterate(model, optimizer, 0)
        for vector in sequence:
            most = max(len(alive), ties.n_independent(vector))
            counts.clear()
            tying.retie(model, optimizer, vector)
            assert all(count <= most for count in counts)
            assert len(alive) == ties.n_independent(vector)


def test_the_first_layer_to_leave_a_root_that_gets_tied_takes_its_tensors_over():
    model, optimizer = build([0, 1, 1, 1])
    iterate(model, optimizer, 0)
    old = model.independent(1)
    moments = [optimizer.state[p]["exp_avg"].clone() for p in old.parameters()]
    tying.retie(model, optimizer, np.array([0, 0, 2, 3]))
    assert model.independent(2) is old
    for name in (2, 3):  # 3 is a clone
        pairs = zip(model.independent(name).parameters(), moments, strict=True)
        assert all(torch.equal(optimizer.state[p]["exp_avg"], m) for p, m in pairs)
    assert len(storages(model)) == 3


def test_retying_refuses_an_impossible_vector_and_changes_nothing():
    model, optimizer = build([0, 1, 2, 3])
    with pytest.raises(ValueError, match="layer 1 points at 3"):
        tying.retie(model, optimizer, np.array([0, 3, 2, 3]))
    assert model.roots == [0, 1, 2, 3]
