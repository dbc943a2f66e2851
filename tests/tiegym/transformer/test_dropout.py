"""Dropout: a stream of its own, PyTorch's bits, and the same noise when a block runs again."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F

import tiegym
from tests.tiegym.small import SMALL
from tiegym import ties
from tiegym.transformer.block import Block, Shape, block
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.noise import draw_noise

SHAPE = Shape(vocab_size=23, n_layer=4, n_head=2, n_embd=16, block_size=8)


def reference(w, x, n_head, dropout):
    """The block with PyTorch's own dropout and attention, which draw from the global generator."""
    b, t, c = x.shape
    h = F.layer_norm(x, (c,), w.norm_1_weight, w.norm_1_bias)
    qkv = F.linear(h, w.qkv_weight, w.qkv_bias).view(b, t, 3, n_head, c // n_head)
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    h = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
    h = F.linear(h.transpose(1, 2).reshape(b, t, c), w.attention_out_weight, w.attention_out_bias)
    x = x + F.dropout(h, dropout)
    h = F.layer_norm(x, (c,), w.norm_2_weight, w.norm_2_bias)
    h = F.gelu(F.linear(h, w.mlp_in_weight, w.mlp_in_bias), approximate="tanh")
    return x + F.dropout(F.linear(h, w.mlp_out_weight, w.mlp_out_bias), dropout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_is_bit_by_bit_what_pytorch_drops_from_the_same_stream(dtype):
    weights = Block(16, torch.device("cpu"), torch.float32)
    weights.initialize(4, torch.Generator().manual_seed(0))
    w = type(weights.weights)(*(p.to(dtype) for p in weights.weights))
    x = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(1)).to(dtype)
    torch.manual_seed(2)
    expected = reference(w, x, 2, 0.3)
    noise = draw_noise(x, 2, 0.3, torch.Generator().manual_seed(2))
    assert torch.equal(block(w, x, 2, noise), expected)
    wanted = torch.autograd.grad(expected.float().square().sum(), list(weights.parameters()))
    got = torch.autograd.grad(block(w, x, 2, noise).float().square().sum(), weights.parameters())
    assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))


def gradients(model):
    tokens = torch.arange(24).view(3, 8) % 23
    model.train().zero_grad()
    loss = model.loss(tokens, tokens.flip(1))
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("own", [False, True])
def test_a_block_that_is_computed_again_drops_the_same(own):
    results = []
    for flag in (False, True):
        model = TiedTransformer(
            SHAPE, ties.pattern("cycle:2", 4), dropout=0.4, checkpoint_activations=flag
        )
        model.initialize(0)
        torch.manual_seed(7)
        generator = torch.Generator().manual_seed(7)
        model.dropout_generator = generator if own else None
        drawn = generator if own else torch.default_generator
        results.append([*gradients(model), *gradients(model), drawn.get_state()])
    assert not torch.equal(results[0][0], results[0][len(results[0]) // 2])
    for plain, again in zip(*results, strict=True):
        torch.testing.assert_close(again, plain)


def test_a_backward_pass_that_is_done_twice_drops_the_same_both_times():
    model = TiedTransformer(
        SHAPE, ties.pattern("tied", 4), dropout=0.4, checkpoint_activations=True
    )
    model.initialize(0)
    model.dropout_generator = torch.Generator().manual_seed(0)
    tokens = torch.arange(24).view(3, 8) % 23
    loss = model.train().loss(tokens, tokens)
    first, second = (
        torch.autograd.grad(loss, list(model.parameters()), retain_graph=True) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def rewards(seed, **changes):
    env = tiegym.TieEnv(**SMALL | changes)
    env.reset(seed=seed)
    return [env.step(action % 4)[1] for action in range(6)]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_environments_in_threads_have_the_rewards_that_they_have_alone(checkpointing):
    changes = {"dropout": 0.2, "checkpoint_activations": checkpointing}
    alone = [rewards(seed, **changes) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            assert list(pool.map(lambda seed: rewards(seed, **changes), range(3))) == alone


def test_dropout_asks_the_global_generator_for_nothing(monkeypatch):
    env = tiegym.TieEnv(**SMALL, dropout=0.2)
    env.reset(seed=0)

    def refuse(*arguments):
        raise AssertionError("the global generator was set")

    monkeypatch.setattr(torch, "set_rng_state", refuse)
    before = torch.get_rng_state()
    env.step(1)
    assert torch.equal(torch.get_rng_state(), before)
    twin = env.fork()
    assert twin.model.dropout_generator is not env.model.dropout_generator


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_kernels_of_a_gpu_drop_the_same_from_a_stream_that_is_lent(monkeypatch, checkpointing):
    changes = {"dropout": 0.2, "checkpoint_activations": checkpointing}
    expected = [rewards(seed, **changes) for seed in range(2)]
    init = TiedTransformer.__init__

    def as_on_a_gpu(self, *arguments, **options):
        init(self, *arguments, **options)
        self.fused_dropout = True

    monkeypatch.setattr(TiedTransformer, "__init__", as_on_a_gpu)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(2) as pool:
        fused = list(pool.map(lambda seed: rewards(seed, **changes), range(2)))
    assert torch.equal(torch.get_rng_state(), before)
    assert fused == expected
