"""Quantised matrices and tensor trains under changing ties: against a plain reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiegym.private_reference import MATRICES, PrivateReference
from tests.tiegym.transformer.test_quantize import straight_through
from tests.tiegym.transformer.test_tensor_train import dense
from tests.tiegym.transformer.test_tying import CLIP, LR, WEIGHT_DECAY, batch, iterate
from tests.tiegym.transformer.test_tying_parts import states
from tiegym import parts
from tiegym.training.initial_weights import take_over
from tiegym.transformer import tying
from tiegym.transformer.block import Block, Shape
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.layer_stats import sample_weights
from tiegym.transformer.position_gradients import position_figures, positions_for, watching

KINDS = [("int8", None), ("int4", None), (None, "tt:3"), ("int4", "tt:3"), ("int8", "tt:8")]


class CompressedReference(PrivateReference):
    """Every layer rounds and multiplies out its own copies, with autograd's own operations."""

    def has(self, unit, matrix):
        return any(name.startswith(f"{matrix}_weight") for name in self.shared[unit])

    def piece(self, own, name):
        bits = self.shape.compression.bits
        return straight_through(own[name], own[f"{name}_log_step"], bits) if bits else own[name]

    def matrix(self, layer, name):
        own, private = self.shared[self.unit_of(layer, name)], self.private[layer]
        if self.shape.compression.rank:
            weight = dense([self.piece(own, f"{name}_weight_core_{k}") for k in range(6)])
        else:
            weight = self.piece(own, f"{name}_weight")
        if f"{name}_b" in private:
            weight = weight + private[f"{name}_b"] @ private[f"{name}_a"]
        return weight


def shape_with(quantize=None, factorize=None, private="none"):
    return Shape(11, 4, 2, 8, 6, private, quantize, factorize)


def build(shape, vector, tie_grad="owner", seed=0, **options):
    """Larger weights than GPT-2's, so that layers matter; steps of their own size again."""
    options = {"dtype": torch.float64} | options
    model = TiedTransformer(shape, vector, tie_grad, **options)
    model.initialize(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.startswith("private"):
                p.add_(0.1)
            elif name.endswith("log_step"):
                p.add_(math.log(1.5 if "core" in name else 5))
            else:
                p.mul_(1.5 if "core" in name else 5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, fused=True)
    return model, optimizer


@settings(max_examples=30, deadline=None)
@given(
    n_parts=st.sampled_from([1, 2]),
    data=st.data(),
    kind=st.sampled_from(KINDS),
    private=st.sampled_from(["none", "norms+lora:2"]),
    tie_grad=st.sampled_from(["owner", "sum"]),
)
def test_training_equals_the_plain_reference(n_parts, data, kind, private, tie_grad):
    """Whatever is tied, untied and frozen in between, in parts and with private parts, too."""
    shape = shape_with(*kind, private)
    model, optimizer = build(shape, data.draw(states(n_parts))[0], tie_grad)
    reference = CompressedReference(model, tie_grad, False, LR, WEIGHT_DECAY, CLIP)
    for k in range(data.draw(st.integers(1, 4))):
        vector, frozen = data.draw(states(n_parts))
        tying.retie(model, optimizer, vector, frozen)
        reference.retie(vector, frozen)
        tokens, _ = batch(99)
        with torch.no_grad():
            torch.testing.assert_close(model(tokens), reference.logits(tokens))
        for seed in (10 * k, 10 * k + 1):
            loss = iterate(model, optimizer, seed)
            assert loss == pytest.approx(reference.iterate(*batch(seed)), abs=1e-9)
        trained = parts.trained(vector, frozen, model.shape.n_layer)
        in_training = sum(p.numel() for p in model.parameters() if p.requires_grad)
        assert in_training == shape.params(*trained)
        still = sum(p.numel() for p in model.parameters()) - in_training
        expected = tying.expected_state_bytes(shape, trained[0], torch.float64, trained[1])
        assert tying.model_state_bytes(model, optimizer) == expected + 8 * still
    for unit, root in enumerate(model.roots):
        for name, p in model.independent(root).named_parameters():
            if name != "qkv_bias":  # the keys' has no gradient: AdamW amplifies its rounding
                its = reference.shared[unit][name]
                torch.testing.assert_close(p.detach(), its, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_leaves_its_root_takes_steps_cores_and_moments_along(kind):
    model, optimizer = build(shape_with(*kind), [0, 0, 0, 0])
    for seed in range(3):
        iterate(model, optimizer, seed)
    tying.retie(model, optimizer, np.array([0, 0, 2, 0]))
    root, clone = (dict(model.independent(unit).named_parameters()) for unit in (0, 2))
    assert any("log_step" in name or "core" in name for name in root)
    for name, its in root.items():
        assert torch.equal(clone[name], its)
        assert clone[name].data_ptr() != its.data_ptr()
        for key, value in optimizer.state[its].items():
            assert torch.equal(optimizer.state[clone[name]][key], value)
            assert optimizer.state[clone[name]][key].data_ptr() != value.data_ptr()


@pytest.mark.parametrize("kind", KINDS)
def test_tied_positions_compute_what_a_layer_uses_once(kind, monkeypatch):
    made, used = [], Block.used
    monkeypatch.setattr(Block, "used", lambda block: made.append(block) or used(block))
    model, _ = build(shape_with(*kind), [0, 0, 2, 0], "sum")
    model.loss(*batch(0)).backward()
    assert len(made) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_checkpointed_activations_give_the_same_gradients(kind, tie_grad):
    gradients = []
    for checkpointing in (False, True):
        model, _ = build(
            shape_with(*kind, "lora:2"),
            [0, 0, 2, 0],
            tie_grad,
            checkpoint_activations=checkpointing,
        )
        model.loss(*batch(0)).backward()
        gradients.append([p.grad for p in model.parameters()])
    for mine, its in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_quantised_weights_are_drawn_as_others_and_differ_by_half_a_step(quantize):
    vector = [0, 1, 0, 1]
    whole = TiedTransformer(shape_with(), vector, dtype=torch.float64)
    model = TiedTransformer(shape_with(quantize), vector, dtype=torch.float64)
    whole.initialize(3)
    model.initialize(3)
    for name, p in whole.named_parameters():
        assert torch.equal(model.get_parameter(name), p)
    for layer in range(4):
        for name in MATRICES:
            mine, its = (getattr(m.shared_weights(layer), f"{name}_weight") for m in (model, whole))
            step = model.get_parameter(f"blocks.{layer % 2}.{name}_weight_log_step").exp()
            high = {"int8": 127, "int4": 7}[quantize]
            torch.testing.assert_close(step, 2 * its.abs().mean() / math.sqrt(high))
            inside = its.abs() <= high * step
            assert (mine - its)[inside].abs().max() <= step / 2
            assert inside.double().mean() > 0.95


def test_residual_projections_of_tensor_trains_start_smaller_as_those_of_matrices():
    shape = Shape(11, 8, 2, 64, 6, factorize="tt:16")
    model = TiedTransformer(shape, range(8))
    model.initialize(0)
    std = {
        name: torch.stack([getattr(model.shared_weights(i), f"{name}_weight") for i in range(8)])
        for name in MATRICES
    }
    std = {name: weight.std().item() for name, weight in std.items()}
    for name in ("qkv", "mlp_in"):
        assert std[name] == pytest.approx(0.02, rel=0.25)
    for name in ("attention_out", "mlp_out"):
        assert std[name] == pytest.approx(0.02 / 4, rel=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_layer_stats_are_of_the_weights_that_layers_use(kind):
    model, _ = build(shape_with(*kind), [0, 1, 0, 0])
    plain = TiedTransformer(shape_with(), [0, 1, 0, 0], dtype=torch.float64)
    take_over(plain, model)
    torch.testing.assert_close(sample_weights(model), sample_weights(plain))


@pytest.mark.parametrize("kind", KINDS)
def test_figures_of_positions_are_those_of_the_weights_that_layers_use(kind):
    """Those of a plain model that has them: its losses and gradients are the same."""
    model, optimizer = build(shape_with(*kind), [0, 1, 0, 1], "sum")
    iterate(model, optimizer, 0)
    plain = TiedTransformer(shape_with(), [0, 1, 0, 1], "sum", dtype=torch.float64)
    take_over(plain, model)
    found = []
    for each in (model, plain):
        positions = positions_for(("agreement", "taylor"), each, cursor=3)
        with watching(each, positions):
            each.loss(*batch(0)).backward()
        found.append(position_figures(each, positions, cursor=3))
    assert found[0]["taylor"].count_nonzero() == 2
    for name, figure in found[0].items():
        torch.testing.assert_close(figure, found[1][name])


@pytest.mark.parametrize("kind", [(None, "tt:16"), ("int8", None)])
def test_an_untrained_layer_of_the_full_rank_takes_any_matrix_over(kind):
    """Exactly as a tensor train of full rank; to half a step where it is quantised."""
    whole, _ = build(shape_with(), [0, 0, 0, 0])
    model, _ = build(shape_with(*kind), [0, 0, 0, 0], seed=5)
    model.independent(0).take_over(dict(whole.independent(0).named_parameters()))
    for mine, its in zip(model.shared_weights(3), whole.shared_weights(3), strict=True):
        atol = 1e-12 if kind[1] else 0.5 * 2 * its.abs().mean().item() / math.sqrt(127) + 1e-12
        torch.testing.assert_close(mine, its, rtol=0, atol=atol)
