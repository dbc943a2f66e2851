"""A side network beside a frozen transformer: its formulas, its start, and what autograd keeps."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tiegym.transformer.block import Shape, block
from tiegym.transformer.fisher_start import fisher_information, start_from_backbone
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.ladder import LadderTransformer, side_width

C, W, L, T, B, V = 16, 4, 3, 8, 2, 11
SHAPE = Shape(vocab_size=V, n_layer=L, n_head=2, n_embd=C, block_size=T)
TIES = np.array([0, 1, 0])
TOKENS = torch.arange(B * T).view(B, T) % V
TARGETS = (TOKENS * 3 + 1) % V


def ladder(private="none", dtype=torch.float64, ties=TIES, **options):
    shape = Shape(**{**vars(SHAPE), "private": private})
    model = LadderTransformer(shape, ties, reduction=C // W, dtype=dtype, **options)
    model.initialize(1)
    model.initialize_part(1)
    with torch.no_grad():  # no zeros that hide what is left out
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    return model


def plain(model):
    """The backbone by itself."""
    backbone = TiedTransformer(model.shape, model.ties, dtype=model.token_embedding.dtype)
    backbone.load_state_dict({n: p for n, p in model.state_dict().items() if "part." not in n})
    return backbone


@pytest.mark.parametrize("ties", [TIES, np.array([0, 1, 0, 0, 0, 2])])
@pytest.mark.parametrize("private", ["none", "norms+scales+lora:2"])
def test_layer_by_layer_the_backbone_is_the_transformer_bit_by_bit(private, ties):
    model = ladder(private, dtype=torch.float32, ties=ties)
    x = model.embedded(TOKENS)
    for layer in range(L):
        x = model.run_layer(layer, x)
    assert torch.equal(model.normalized(x), plain(model).hidden(TOKENS))


def test_logits_are_those_of_the_formulas():
    model = ladder()
    side = model.part
    h = F.embedding(TOKENS, model.token_embedding) + model.position_embedding
    s = h @ side.down[0].weight.T + side.down[0].bias
    for layer in range(L):
        h = block(model.shared_weights(layer), h, 2)
        mu = 1 / (1 + torch.exp(-side.gates[layer] / 0.1))
        s = mu * s + (1 - mu) * (h @ side.down[layer + 1].weight.T + side.down[layer + 1].bias)
        s = block(side.blocks[layer].weights, s, 2)
    s = (s - s.mean(-1, keepdim=True)) / (s.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    s = s * side.norm.weight + side.norm.bias
    logits = (s @ side.up.weight.T + side.up.bias) @ model.token_embedding.T
    torch.testing.assert_close(model(TOKENS), logits)
    loss = F.cross_entropy(logits.flatten(0, 1), TARGETS.flatten())
    torch.testing.assert_close(model.loss(TOKENS, TARGETS), loss)


def test_gates_begin_in_the_middle_and_the_side_network_has_the_parameters_of_its_width():
    model = LadderTransformer(SHAPE, TIES, reduction=C // W)
    before = torch.get_rng_state()
    model.initialize_part(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.part.gates.any()
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    down, blocks = (L + 1) * (C * W + W), L * (12 * W * W + 13 * W)
    assert trained == down + L + blocks + 2 * W + W * C + C
    assert all(name.startswith("part.") == p.requires_grad for name, p in model.named_parameters())


def test_the_backbone_gets_no_gradient_and_autograd_keeps_nothing_from_inside_its_layers():
    model = ladder(dtype=torch.float32).train()
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.loss(TOKENS, TARGETS)
    loss.backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None and p.grad.any()) == name.startswith("part.")
    weights = {p.data_ptr() for p in model.parameters()}
    states = {t.data_ptr() for t in kept if t.data_ptr() not in weights and t.numel() == B * T * C}
    # The maps D train, so that they keep what they read: h_0, ..., h_L, and nothing else so wide;
    # the MLP of the side network is as wide here as the stream: 4 W = C.
    wide = [t for t in kept if t.data_ptr() in states and not t.requires_grad]
    assert len({t.data_ptr() for t in wide if t.grad_fn is None}) == L + 1
    assert not [t for t in kept if t.numel() in (B * T * 3 * C, B * T * 4 * C)]
    full = plain(model).train()
    everything = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: everything.append(t) or t, lambda t: t):
        full.loss(TOKENS, TARGETS)
    assert [t for t in everything if t.numel() == B * T * 4 * C]


def test_dropout_is_that_of_the_side_network_alone():
    model = ladder(dropout=0.5)
    model.dropout_generator = torch.Generator().manual_seed(0)
    model.fused_dropout = False
    model.train()
    assert not torch.equal(model(TOKENS), model(TOKENS))
    x = model.embedded(TOKENS)
    assert torch.equal(model.run_layer(0, x), model.run_layer(0, x))
    model.eval()
    assert torch.equal(model(TOKENS), model(TOKENS))


@pytest.mark.parametrize("private", ["none", "norms+scales+lora:2"])
def test_fisher_information_is_the_mean_square_of_a_sequences_gradient(private):
    model = ladder(private)
    found = fisher_information(model, TOKENS, TARGETS)
    backbone = plain(model)
    expected = 0.0
    for row in range(B):
        backbone.zero_grad()
        backbone.loss(TOKENS[row : row + 1], TARGETS[row : row + 1]).backward()
        expected = expected + backbone.independent(1).mlp_in_weight.grad.square() / B
    if private == "none":  # else its own matrix isn't all that the layer computes with
        torch.testing.assert_close(found[1]["mlp_in_weight"], expected)
    assert [f["qkv_weight"].shape for f in found] == [(3 * C, C)] * L
    assert not torch.equal(found[0]["qkv_weight"], found[2]["qkv_weight"])  # tied, but elsewhere
    assert not any(p.grad is not None for p in model.parameters())


def test_the_side_network_begins_with_rows_and_columns_of_its_layer():
    model = ladder()
    start_from_backbone(model, TOKENS, TARGETS)
    side, weights = model.part, model.shared_weights(1)
    stream = side.up.weight.argmax(0)
    assert torch.equal(side.up.weight, torch.eye(C, dtype=torch.float64)[stream].T)
    for down in side.down:
        assert torch.equal(down(model.embedded(TOKENS)), model.embedded(TOKENS)[..., stream])
    mine = side.blocks[1]
    assert torch.equal(mine.norm_1_weight, weights.norm_1_weight[stream])
    units = [int((weights.mlp_in_bias == bias).nonzero()) for bias in mine.mlp_in_bias]
    assert len(set(units)) == 4 * W
    assert torch.equal(mine.mlp_in_weight, weights.mlp_in_weight[units][:, stream])
    assert torch.equal(mine.mlp_out_weight, weights.mlp_out_weight[stream][:, units])
    rows = [int((weights.qkv_bias == bias).nonzero()) for bias in mine.qkv_bias]
    heads = [row % C // (C // 2) for row in rows]
    assert heads == [0, 0, 1, 1] * 3  # each head keeps channels of its own
    assert [row // C for row in rows] == [0] * W + [1] * W + [2] * W
    assert [row - C for row in rows[W : 2 * W]] == rows[:W]  # of queries and keys the same
    values = [row - 2 * C for row in rows[2 * W :]]
    assert torch.equal(mine.attention_out_weight, weights.attention_out_weight[stream][:, values])


def test_with_nothing_left_out_the_side_network_begins_as_the_backbone():
    model = LadderTransformer(SHAPE, TIES, reduction=1, dtype=torch.float64)
    model.initialize(3)
    model.initialize_part(3)
    start_from_backbone(model, TOKENS, TARGETS)
    with torch.no_grad():
        model.part.gates.fill_(100.0)  # it hears nothing of the backbone but the embedding
    torch.testing.assert_close(model(TOKENS), plain(model)(TOKENS))


def test_widths_that_do_not_go_are_refused():
    assert side_width(128, 4, 8) == 16
    with pytest.raises(ValueError, match=r"reduction=64 doesn't go with n_embd=128 and n_head=4"):
        side_width(128, 4, 64)
    with pytest.raises(ValueError, match="choose one of 1, 2, 4, 8"):
        LadderTransformer(SHAPE, TIES, reduction=0)
    with pytest.raises(ValueError, match="reads all layers"):
        ladder().hidden(TOKENS, 2)
    with pytest.raises(ValueError, match="block_size=8: give fewer"):
        ladder().hidden(torch.zeros(1, T + 1, dtype=torch.int64))
