"""How weights start: by depth, by how often they are used, and balanced as by Admin."""

import math

import pytest
import torch

from tiegym import ties
from tiegym.transformer.admin import balance_branches
from tiegym.transformer.block import Shape, block
from tiegym.transformer.gpt import TiedTransformer

RESIDUAL = ("attention_out_weight", "mlp_out_weight")


def make(pattern, residual_scale="depth", private="none", **sizes):
    sizes = {"n_layer": 6, "n_head": 2, "n_embd": 32, "block_size": 16} | sizes
    shape = Shape(vocab_size=50, private=private, **sizes)
    model = TiedTransformer(shape, ties.pattern(pattern, shape.n_layer))
    model.initialize(0, residual_scale)
    return model


@pytest.mark.parametrize(("pattern", "uses"), [("tied", 6), ("cycle:2", 3), ("independent", 1)])
def test_residual_projections_start_by_how_many_positions_use_them(pattern, uses):
    depth, group = make(pattern), make(pattern, "group")
    for name, p in group.named_parameters():
        by = math.sqrt(uses) if name.endswith(RESIDUAL) else 1.0
        torch.testing.assert_close(p * by, depth.get_parameter(name))
    if uses == 1:  # to the bit
        its = dict(depth.named_parameters())
        assert all(torch.equal(p, its[name]) for name, p in group.named_parameters())


@pytest.mark.parametrize("compression", [{}, {"quantize": "int8"}, {"factorize": "tt:4"}])
def test_a_standard_deviation_scales_all_that_is_drawn(compression):
    plain, wide = make("cycle:2", **compression), make("cycle:2", **compression)
    wide.initialize(0, std=0.1)
    for name in ("token_embedding", "position_embedding"):
        torch.testing.assert_close(wide.get_parameter(name), 5 * plain.get_parameter(name))
    for layer in (0, 1):
        its = plain.used_weights(layer)
        for name, weight in wide.used_weights(layer).items():
            torch.testing.assert_close(weight, (5 if weight.ndim == 2 else 1) * its[name])


@pytest.mark.parametrize("pattern", ["tied", "cycle:2", "independent"])
def test_admin_gives_every_branch_the_variance_of_the_embedding(pattern):
    model = make(pattern, private="norms+scales+lora:2")
    tokens = torch.randint(50, (8, 16), generator=torch.Generator().manual_seed(0))
    balance_branches(model, tokens)
    with torch.no_grad():
        x = model.token_embedding[tokens] + model.position_embedding
        aim = x.var().item()
        for layer, root in enumerate(model.roots):
            weights, private = model.independent(root).weights, model.private_weights(layer)
            silent = private._replace(mlp_scale=torch.zeros(32))
            middle = block(weights, x, 2, None, silent)
            end = block(weights, x, 2, None, private)
            assert (middle - x).var().item() == pytest.approx(aim, rel=1e-3)
            assert (end - middle).var().item() == pytest.approx(aim, rel=1e-3)
            x = end
    for layer in range(6):
        scale = model.private_part(layer).attention_scale
        assert torch.equal(scale, scale[:1].expand(32))  # one gain, from which each number trains


def test_admin_changes_nothing_but_the_scales():
    model, plain = make("tied", private="scales"), make("tied", private="scales")
    balance_branches(model, torch.randint(50, (8, 16)))
    its = dict(plain.named_parameters())
    for name, p in model.named_parameters():
        assert torch.equal(p, its[name]) != name.endswith("scale")


def test_a_branch_without_variance_keeps_its_gain():
    model = make("tied", private="scales", n_embd=1, n_head=1)
    balance_branches(model, torch.randint(50, (2, 4)))
    for layer in range(6):
        assert model.private_part(layer).mlp_scale.item() == 1
