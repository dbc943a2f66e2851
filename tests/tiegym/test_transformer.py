"""The transformer by itself: compilation, checkpointing, the chunked loss."""

import numpy as np
import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F

from tiegym import ties, tying
from tiegym.chunked_loss import chunked_cross_entropy
from tiegym.trainer import resolve_loss_chunk
from tiegym.transformer import Shape, TiedTransformer

SHAPE = Shape(vocab_size=23, n_layer=4, n_head=2, n_embd=16, block_size=8)


def build(dtype=torch.float32, vector="cycle:2", **options):
    model = TiedTransformer(SHAPE, ties.parse(vector, 4), dtype=dtype, **options)
    model.initialize(0)
    return model


def batch(seed=0):
    tokens = np.random.default_rng(seed).integers(SHAPE.vocab_size, size=(3, 9))
    return torch.from_numpy(tokens[:, :-1]), torch.from_numpy(tokens[:, 1:])


def gradients(model):
    model.train()
    model.zero_grad()
    loss = model.loss(*batch())
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("chunk", [1, 5, 24, 100])
def test_the_chunked_loss_has_the_value_and_gradients_of_the_whole(chunk):
    for plain, chunked in zip(
        gradients(build(torch.float64)),
        gradients(build(torch.float64, loss_chunk=chunk)),
        strict=True,
    ):
        torch.testing.assert_close(chunked, plain)


def test_the_chunked_loss_needs_no_gradient_to_be_right():
    model, (tokens, targets) = build(loss_chunk=7), batch()
    with torch.inference_mode():
        expected = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
        torch.testing.assert_close(model.loss(tokens, targets), expected)


def test_the_chunked_loss_scales_its_gradients_and_refuses_a_second_backward_pass():
    torch.manual_seed(0)
    hidden = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(5, (6,))
    whole = 3 * F.cross_entropy(F.linear(hidden, weight), targets)
    chunked = 3 * chunked_cross_entropy(hidden, weight, targets, 4)
    torch.testing.assert_close(
        torch.autograd.grad(chunked, (hidden, weight), retain_graph=True),
        torch.autograd.grad(whole, (hidden, weight)),
    )
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        chunked.backward()


def test_the_chunked_loss_gives_a_float32_head_a_float32_gradient_in_bfloat16_computation():
    torch.manual_seed(0)
    hidden = torch.randn(64, 16).bfloat16()
    weight = torch.randn(40, 16, requires_grad=True)
    targets = torch.randint(40, (64,))
    chunked_cross_entropy(hidden, weight, targets, 8).backward()
    assert weight.grad.dtype == torch.float32
    exact = weight.detach().bfloat16().float().requires_grad_()
    F.cross_entropy(F.linear(hidden.float(), exact), targets).backward()
    torch.testing.assert_close(weight.grad, exact.grad, rtol=0.05, atol=2e-4)


def test_the_chunked_loss_keeps_nothing_as_large_as_the_logits():
    def largest(chunk):
        model, sizes = build(loss_chunk=chunk), []
        pack = lambda t: sizes.append(t.numel()) or t  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            tokens = torch.zeros(30, 8, dtype=torch.long)
            hidden = model.hidden(tokens)
            sizes.clear()
            head = model.token_embedding
            if chunk:
                chunked_cross_entropy(hidden.flatten(0, 1), head, tokens.flatten(), chunk)
            else:
                F.cross_entropy(F.linear(hidden, head).flatten(0, 1), tokens.flatten())
        return max(sizes)

    logits = 30 * 8 * SHAPE.vocab_size
    assert largest(0) >= logits
    assert largest(8) < logits


def test_the_loss_is_chunked_where_it_pays():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert resolve_loss_chunk(None, 256, cpu) == 0
    assert resolve_loss_chunk(None, 8192, cpu) == 128
    assert resolve_loss_chunk(None, 50_257, gpu) > 1000
    assert resolve_loss_chunk(0, 50_257, gpu) == 0
    assert resolve_loss_chunk(64, 256, cpu) == 64


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointed_activations_give_the_same_gradients(tie_grad, dropout):
    results = []
    for flag in (False, True):
        torch.manual_seed(0)
        model = build(tie_grad=tie_grad, dropout=dropout, checkpoint_activations=flag)
        results.append(gradients(model))
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_checkpointing_keeps_less():
    def kept(flag):
        model, total = build(checkpoint_activations=flag), 0

        def pack(t):
            nonlocal total
            total += t.numel()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            model.train().hidden(batch()[0])
        return total

    assert kept(True) < kept(False) / 2


def test_tie_changes_do_not_compile_again():
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    model = build()
    model._block = torch.compile(model._block, dynamic=False, backend=counter)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    rng = np.random.default_rng(0)
    for k in range(60):
        tying.retie(model, optimizer, ties.sample(4, rng))
        model.train()
        optimizer.zero_grad()
        model.loss(*batch(k)).backward()
        optimizer.step()
        model.eval()
        with torch.inference_mode():
            model.loss(*batch(k))
        if k == 10:
            graphs = counter.frame_count
    assert graphs <= 4
    assert counter.frame_count == graphs


def test_too_long_a_sequence_is_refused():
    with pytest.raises(ValueError, match="9 tokens a sequence, but block_size=8"):
        build()(torch.zeros(1, 9, dtype=torch.long))
