"""The transformer by itself: initial weights, dropout, chunked loss, checkpointing, compilation."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tests.tiegym.small import SMALL
from tiegym import TieEnv, ties
from tiegym.training.resolve import resolve_loss_chunk
from tiegym.transformer.block import Block, Shape, block
from tiegym.transformer.chunked_loss import chunked_cross_entropy
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.noise import draw_noise

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


def test_a_layers_initial_weights_do_not_depend_on_the_ties():
    full = build(vector="independent")
    assert not torch.equal(full.independent(2).qkv_weight, full.independent(1).qkv_weight)
    for vector in ("0,0,2,2", "0,0,0,3"):
        model = build(vector=vector)
        for name, p in model.named_parameters():
            assert torch.equal(p, full.get_parameter(name))


def test_embeddings_and_each_layer_have_streams_of_their_own():
    shape = Shape(vocab_size=48, n_layer=3, n_head=2, n_embd=16, block_size=8)
    model = TiedTransformer(shape, ties.pattern("independent", 3))
    model.initialize(5)
    matrices = [model.token_embedding, *(model.independent(k).qkv_weight for k in range(3))]
    assert len({m.shape for m in matrices}) == 1  # the same numbers, were it the same stream
    for k, one in enumerate(matrices):
        for other in matrices[:k]:
            pair = torch.stack((one.flatten(), other.flatten()))
            assert abs(torch.corrcoef(pair)[0, 1].item()) < 0.2


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vector", ["tied", "cycle:2", "independent"])
def test_summed_gradients_in_bfloat16_are_within_two_percent(vector, dtype, checkpointing):
    """Of float64's, at 24 layers; docs/performance.md says so. Sums are no worse than the rest."""
    shape = Shape(64, 24, 2, 32, 32)
    torch.manual_seed(0)
    options = {"tie_grad": "sum", "checkpoint_activations": checkpointing}
    exact = TiedTransformer(shape, ties.parse(vector, 24), dtype=torch.float64, **options)
    rounded = TiedTransformer(
        shape, ties.parse(vector, 24), dtype=dtype, compute_dtype=torch.bfloat16, **options
    )
    exact.initialize(0)
    with torch.no_grad():
        for mine, its in zip(rounded.parameters(), exact.parameters(), strict=True):
            mine.copy_(its + 0.01 * torch.randn_like(its))
            its.copy_(mine)
    tokens = torch.randint(64, (4, 33))
    for model in (rounded, exact):
        model.train().loss(tokens[:, :-1], tokens[:, 1:]).backward()
    pairs = list(zip(rounded.parameters(), exact.parameters(), strict=True))
    error = sum((p.grad.double() - q.grad).square().sum() for p, q in pairs).sqrt()
    assert error < 0.02 * torch.nn.utils.get_total_norm([q.grad for _, q in pairs])
    for p, q in pairs:
        assert (p.grad.double() - q.grad).norm() < 0.06 * q.grad.norm()


def test_initial_weights_are_gpt_2s_with_residual_projections_scaled_by_depth():
    model = TiedTransformer(Shape(200, 8, 2, 64, 64), ties.pattern("sequence:2", 8))
    model.initialize(0)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            residual = name.endswith(("attention_out_weight", "mlp_out_weight"))
            expected = 0.02 / math.sqrt(2 * 8) if residual else 0.02
            assert p.std().item() == pytest.approx(expected, rel=0.05)
        else:
            assert (p == (1 if "norm" in name and name.endswith("weight") else 0)).all()


def test_dropout_is_on_embeddings():
    model = build(dropout=0.5)
    with torch.no_grad():
        for p in model.blocks.parameters():
            p.zero_()  # a block adds nothing: what it drops makes no difference
    torch.manual_seed(0)
    embedded = F.embedding(batch()[0], model.token_embedding) + model.position_embedding
    expected = F.layer_norm(F.dropout(embedded), (SHAPE.n_embd,))
    torch.manual_seed(0)
    assert torch.equal(model.train().hidden(batch()[0]), expected)


def test_dropout_is_on_attention_and_on_both_residual_branches():
    weights = Block(SHAPE.n_embd, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        for p in weights.parameters():
            p.zero_()
        weights.qkv_bias[-SHAPE.n_embd :] = 1  # all values are 1
        weights.attention_out_weight.copy_(torch.eye(SHAPE.n_embd))
        weights.mlp_out_bias.fill_(100)
        x = torch.zeros(20, 8, SHAPE.n_embd)
        torch.manual_seed(0)
        plain, dropped = (
            block(weights.weights, x, SHAPE.n_head, noise)
            for noise in (None, draw_noise(x, SHAPE.n_head, 0.5))
        )
    assert plain.unique().tolist() == [101]
    # The first position attends to itself alone. Whatever isn't dropped counts twice.
    assert dropped[:, 0].unique().tolist() == [0, 2 * 2, 2 * 100, 2 * 2 + 2 * 100]


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


class Products(TorchDispatchMode):
    """Counts products of matrices."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "mm" in str(func)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("of_hidden", "of_weight"), [(True, False), (False, True)])
def test_the_chunked_loss_computes_the_gradient_that_is_needed_alone(of_hidden, of_weight):
    torch.manual_seed(0)
    hidden = torch.randn(6, 3, dtype=torch.float64, requires_grad=of_hidden)
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=of_weight)
    targets = torch.randint(5, (6,))
    wanted = hidden if of_hidden else weight
    (expected,) = torch.autograd.grad(F.cross_entropy(F.linear(hidden, weight), targets), wanted)
    with Products() as products:
        loss = chunked_cross_entropy(hidden, weight, targets, 4)
        (found,) = torch.autograd.grad(loss, wanted)
    torch.testing.assert_close(found, expected)
    assert products.count == 2 * 2  # of two chunks the logits, and one gradient


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
    assert resolve_loss_chunk(None, 50_257, gpu) > 500
    assert resolve_loss_chunk(0, 50_257, gpu) == 0
    assert resolve_loss_chunk(64, 256, cpu) == 64


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("compute_dtype", [torch.float32, torch.bfloat16])
def test_checkpointed_activations_give_the_same_gradients(tie_grad, dropout, compute_dtype):
    results = []
    for flag in (False, True):
        torch.manual_seed(0)
        model = build(
            tie_grad=tie_grad,
            dropout=dropout,
            compute_dtype=compute_dtype,
            checkpoint_activations=flag,
        )
        results.append(gradients(model))
    # In bfloat16 the sum over positions is rounded once here, and for each position there.
    tolerance = {} if compute_dtype == torch.float32 else {"rtol": 0.05, "atol": 2e-3}
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(checkpointed, plain, **tolerance)


def test_checkpointing_keeps_each_blocks_input_and_no_cast_of_weights():
    model = build(compute_dtype=torch.bfloat16, checkpoint_activations=True).train()
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append((t.dtype, t.numel())) or t, lambda t: t
    ):
        model.hidden(batch()[0])
    residual, smallest_matrix = 3 * 8 * SHAPE.n_embd, SHAPE.n_embd**2
    large = [n for dtype, n in sizes if dtype == torch.bfloat16 and n >= smallest_matrix]
    assert large == [residual] * (SHAPE.n_layer + 1)  # one more for the final norm


def test_checkpointing_keeps_less_than_half():
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


@pytest.mark.parametrize(("tie_grad", "graphs"), [("owner", 3), ("sum", 2)])
def test_200_tie_changes_forks_and_episodes_compile_a_fixed_number_of_graphs(
    monkeypatch, tie_grad, graphs
):
    """Training with and (owner) without weight gradients, and evaluation."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    whole_windows = {"block_size": 8, "test_tokens": 8 * SMALL["batch_size"]}
    config = {"action": "joint", "tie_grad": tie_grad, "iters_per_step": 1, "max_iters": 90}
    env = TieEnv(**SMALL | whole_windows | config, compile=True)
    env.action_space.seed(0)
    env.reset(seed=0)
    seen = set()
    for k in range(200):
        *_, terminated, _, info = env.step(env.action_space.sample())
        seen.add(tuple(info["ties"]))
        if k == 5:
            assert counter.frame_count == graphs
        if terminated:
            env.reset()
        elif k % 50 == 0:
            env = env.fork()
    assert len(seen) == 24  # each tie vector of 4 layers
    assert counter.frame_count == graphs


def test_too_long_a_sequence_is_refused():
    with pytest.raises(ValueError, match="9 tokens a sequence, but block_size=8"):
        build()(torch.zeros(1, 9, dtype=torch.long))


@pytest.mark.parametrize("other", [1, 2**22, 2**32, 2**47])
def test_every_bit_of_a_seed_changes_the_initial_weights(other):
    model = build()
    before = [p.detach().clone() for p in model.parameters() if p.ndim == 2]
    model.initialize(other)
    after = [p for p in model.parameters() if p.ndim == 2]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    model.initialize(0)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def stack(n_layer, vector, like=None):
    """A transformer of so many layers, with another's weights."""
    shape = Shape(vocab_size=23, n_layer=n_layer, n_head=2, n_embd=16, block_size=8)
    model = TiedTransformer(shape, ties.parse(vector, n_layer)).eval()
    if like is not None:
        names = [name for name, _ in model.named_parameters()]
        model.load_state_dict({n: p for n, p in like.state_dict().items() if n in names})
    return model


@pytest.mark.parametrize("vector", ["independent", "tied", "cycle:2"])
def test_at_a_lower_depth_it_is_the_transformer_of_its_first_layers(vector):
    model, (tokens, targets) = build(vector=vector), batch()
    for depth in (2, 3):
        shallower = stack(depth, vector, like=model)
        torch.testing.assert_close(model(tokens, depth), shallower(tokens), rtol=0, atol=0)
        assert torch.equal(model.loss(tokens, targets, depth), shallower.loss(tokens, targets))
    assert torch.equal(model(tokens, 4), model(tokens))
    assert not torch.equal(model(tokens, 3), model(tokens))


@pytest.mark.parametrize(("vector", "deeper"), [("tied", 7), ("cycle:2", 6)])
def test_beyond_its_layers_it_runs_them_again(vector, deeper):
    model, (tokens, _) = build(vector=vector), batch()
    assert torch.equal(model(tokens, deeper), stack(deeper, vector, like=model)(tokens))


def test_no_layer_at_all_is_refused():
    with pytest.raises(ValueError, match=r"depth=0 must be at least 1 layer, or None for all"):
        build().loss(*batch(), 0)
