"""Private parts during training: against a plain reference, and what they must not change."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiegym.private_reference import MATRICES, PrivateReference
from tests.tiegym.transformer.test_tying import CLIP, LR, WEIGHT_DECAY, batch, iterate
from tests.tiegym.transformer.test_tying_parts import states
from tiegym import parts, ties
from tiegym.transformer import tying
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer

KINDS = ["norms", "scales", "lora:2", "norms+scales", "norms+scales+lora:2", "norms+scales+lora:7"]


def shape_with(private):
    return Shape(vocab_size=11, n_layer=4, n_head=2, n_embd=8, block_size=6, private=private)


def build(vector, private, tie_grad="owner", seed=0, **options):
    """Weights large enough that every one of them, private ones included, shows in the output."""
    model = TiedTransformer(shape_with(private), vector, tie_grad, dtype=torch.float64, **options)
    model.initialize(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.startswith("private"):
                p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype) * 0.2)
            else:
                p.mul_(5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
    return model, optimizer


@settings(max_examples=60, deadline=None)
@given(
    n_parts=st.sampled_from([1, 2]),
    data=st.data(),
    private=st.sampled_from(KINDS),
    tie_grad=st.sampled_from(["owner", "sum"]),
    soft=st.booleans(),
)
def test_training_with_private_parts_equals_the_plain_reference(
    n_parts, data, private, tie_grad, soft
):
    """Whatever else is shared apart, changed softly or frozen."""
    soft = soft and "lora" in private
    model, optimizer = build(data.draw(states(n_parts))[0], private, tie_grad)
    reference = PrivateReference(model, tie_grad, soft, LR, WEIGHT_DECAY, CLIP)
    for k in range(data.draw(st.integers(1, 5))):
        vector, frozen = data.draw(states(n_parts))
        tying.retie(model, optimizer, vector, frozen, soft=soft)
        reference.retie(vector, frozen)
        tokens, _ = batch(99)
        with torch.no_grad():
            torch.testing.assert_close(model(tokens), reference.logits(tokens))
        for seed in (10 * k, 10 * k + 1):
            loss = iterate(model, optimizer, seed)
            assert loss == pytest.approx(reference.iterate(*batch(seed)), abs=1e-9)
        trained = parts.trained(vector, frozen, model.shape.n_layer)
        in_training = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert in_training == model.shape.params(*trained)
        still = sum(p.numel() for p in model.parameters()) - in_training
        expected = tying.expected_state_bytes(model.shape, trained[0], torch.float64, trained[1])
        assert tying.model_state_bytes(model, optimizer) == expected + 8 * still
    compare(model, optimizer, reference)


def compare(model, optimizer, reference):
    close = {"rtol": 1e-5, "atol": 1e-7}
    for unit, root in enumerate(model.roots):
        of_block = dict(model.independent(root).named_parameters())
        for name, p in of_block.items():
            mine, its = p.detach().clone(), reference.shared[unit][name].clone()
            if name == "qkv_bias":  # the keys' has no gradient: AdamW amplifies its rounding
                keys = slice(model.shape.n_embd, 2 * model.shape.n_embd)
                mine[keys], its[keys] = 0, 0
            torch.testing.assert_close(mine, its, **close)
            if model.frozen[root]:
                assert p not in optimizer.state
            elif unit == root and name != "qkv_bias":
                step, exp_avg, _ = reference.moments["shared", unit, name]
                assert optimizer.state[p]["step"] == step
                torch.testing.assert_close(optimizer.state[p]["exp_avg"], exp_avg, **close)
    for layer, part in enumerate(model.private):
        for name, p in part.named_parameters():
            if name.endswith(("_a", "_b")):  # known but for the sign of each direction: see below
                continue
            torch.testing.assert_close(p.detach(), reference.private[layer][name], **close)
            step, exp_avg, exp_avg_sq = reference.moments["private", layer, name]
            state = optimizer.state[p]
            assert state["step"] == step
            torch.testing.assert_close(state["exp_avg"], exp_avg, **close)
            torch.testing.assert_close(state["exp_avg_sq"], exp_avg_sq, **close)
        for matrix in MATRICES if model.shape.private_parts.rank else ():
            term, own = part.term(matrix), reference.private[layer]
            torch.testing.assert_close(
                term.product.detach(), own[f"{matrix}_b"] @ own[f"{matrix}_a"], **close
            )
            for key, p in zip("ab", term, strict=True):
                step, _, exp_avg_sq = reference.moments["private", layer, f"{matrix}_{key}"]
                assert optimizer.state[p]["step"] == step
                torch.testing.assert_close(optimizer.state[p]["exp_avg_sq"], exp_avg_sq, **close)


@pytest.mark.parametrize("private", KINDS)
def test_private_parts_change_nothing_at_the_start(private):
    vector = ties.pattern("cycle:2", 4)
    plain = TiedTransformer(shape_with("none"), vector, dtype=torch.float64)
    model = TiedTransformer(shape_with(private), vector, dtype=torch.float64)
    plain.initialize(3)
    model.initialize(3)
    others = dict(plain.named_parameters())
    for name, p in model.named_parameters():
        assert name.startswith("private") or torch.equal(p, others[name])
    tokens, _ = batch(0)
    torch.testing.assert_close(model(tokens), plain(tokens), rtol=1e-12, atol=1e-12)


def test_a_layers_terms_are_drawn_from_its_own_stream():
    models = {}
    for key, pattern, seed in ((0, "tied", 0), (1, "independent", 0), (2, "tied", 1)):
        model = TiedTransformer(shape_with("norms+lora:2"), ties.pattern(pattern, 4))
        model.initialize(seed)
        models[key] = [model.private_part(layer).term("mlp_out").a for layer in range(4)]
    for layer in range(4):
        a = models[0][layer]
        assert torch.equal(a, models[1][layer])
        assert not torch.equal(a, models[2][layer])
        assert not torch.equal(a, models[0][layer - 1])
        assert 0.5 / 32**0.5 < a.abs().max() <= 1 / 32**0.5  # 4 C inputs


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_every_position_trains_its_private_parts(tie_grad):
    model, _ = build([0, 0, 0, 0], "norms+scales+lora:2", tie_grad)
    model.loss(*batch(0)).backward()
    assert all(p.grad.abs().max() > 0 for p in model.private.parameters())


def test_owner_gradients_leave_shared_weights_to_their_own_position():
    model, _ = build([0, 0, 0, 0], "norms+scales+lora:2")
    alone = {}
    for layer in (0, 1):  # where only one of the positions trains, the gradient is the same
        model.zero_grad()
        model.loss(*batch(0)).backward()
        alone[layer] = model.independent(0).qkv_weight.grad.clone()
        with torch.no_grad():  # another private part behind it changes nothing of what it is
            model.private_part(3).mlp_scale.zero_()
            model.private_part(3).attention_scale.zero_()
    assert not torch.equal(alone[0], alone[1])
    with torch.no_grad():
        for p in (model.private_part(0).attention_scale, model.private_part(0).mlp_scale):
            p.zero_()
    model.zero_grad()
    model.loss(*batch(0)).backward()
    assert model.independent(0).qkv_weight.grad.abs().max() == 0  # its own branch adds nothing


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointed_activations_give_the_same_gradients(dropout):
    gradients = []
    for checkpointing in (False, True):
        model, _ = build(
            [0, 0, 2, 0],
            "norms+scales+lora:2",
            dropout=dropout,
            checkpoint_activations=checkpointing,
        )
        model.dropout_generator = torch.Generator().manual_seed(0)
        model.loss(*batch(0)).backward()
        gradients.append([p.grad for p in model.parameters()])
    for mine, its in zip(*gradients, strict=True):
        assert torch.equal(mine, its)


def test_the_present_state_again_leaves_private_parts_alone():
    model, optimizer = build([0, 0, 2, 1], "norms+scales+lora:2")
    iterate(model, optimizer, 0)
    before = {p: p.clone() for p in model.parameters()}
    moments = {p: optimizer.state[p]["exp_avg"].clone() for p in before}
    tying.retie(model, optimizer, model.ties, soft=True)
    assert list(before) == list(model.parameters())
    assert all(torch.equal(p, value) for p, value in before.items())
    assert all(torch.equal(optimizer.state[p]["exp_avg"], m) for p, m in moments.items())
