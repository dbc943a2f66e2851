"""Routers over the layers of a frozen transformer: what runs, what they learn, causality."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.tiegym.default_dtype import default_dtype
from tiegym.transformer.block import Shape
from tiegym.transformer.elastic_depth import ElasticTransformer
from tiegym.transformer.gpt import TiedTransformer

C, L, T, B, V = 16, 3, 8, 2, 11
SHAPE = Shape(vocab_size=V, n_layer=L, n_head=2, n_embd=C, block_size=T)
TIES = np.array([0, 1, 0])
TOKENS = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(5))


def elastic(dtype=torch.float64, **options):
    model = ElasticTransformer(SHAPE, TIES, dtype=dtype, **options)
    model.initialize(1)
    model.initialize_part(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=dtype))
    return model.eval()


def teacher_of(model):
    teacher = TiedTransformer(SHAPE, TIES, dtype=model.token_embedding.dtype)
    teacher.load_state_dict({n: p for n, p in model.state_dict().items() if "part." not in n})
    return teacher.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_all_tokens_it_is_its_teacher_bit_by_bit(dtype):
    model = elastic(dtype, threshold=0.0)
    assert torch.equal(model(TOKENS), teacher_of(model)(TOKENS))
    assert (model.tokens_run, model.tokens_seen) == (L * B * T, B * T)
    model.train()
    model.router_loss = 0.0
    assert model.distillation(TOKENS, T).item() == 0.0  # so is the student in training


def test_no_output_depends_on_later_tokens():
    model = elastic(threshold=0.5)
    logits = model(TOKENS)
    share = model.tokens_run / model.tokens_seen / L
    assert 0.2 < share < 0.8  # some run, some don't
    for t in range(1, T):
        changed = TOKENS.clone()
        changed[:, t:] = (changed[:, t:] + 1 + torch.arange(T - t)) % V
        torch.testing.assert_close(model(changed)[:, :t], logits[:, :t])
        assert not torch.allclose(model(changed)[:, t:], logits[:, t:])
    for row in range(B):  # nor on the other sequences
        torch.testing.assert_close(model(TOKENS[row : row + 1]), logits[row : row + 1])


def by_hand(model, row, runs):
    """The logits of one sequence (T,), token by token; `runs(layer, scores)` says which run."""
    x = model.token_embedding[row] + model.position_embedding
    for layer in range(L):
        s = x @ model.part.weight[layer]
        g = torch.sigmoid(model.part.log_slope[layer].exp() * s + model.part.bias[layer])
        chosen = runs(layer, g)
        out = model.run_layer(layer, x[chosen][None])[0]
        if model.gain == "scaled":
            out = x[chosen] + g[chosen, None] * (out - x[chosen])
        x = x.index_copy(0, chosen, out)
    return F.layer_norm(x, (C,), model.final_norm_weight, model.final_norm_bias) @ (
        model.token_embedding.T
    )


@pytest.mark.parametrize("gain", ["straight-through", "scaled"])
@torch.no_grad()
def test_tokens_below_the_threshold_go_by(gain):
    model = elastic(threshold=0.45, gain=gain)
    logits = model(TOKENS)
    for row in range(B):
        expected = by_hand(model, TOKENS[row], lambda _, g: (g >= 0.45).nonzero()[:, 0])
        torch.testing.assert_close(logits[row], expected)
    model.threshold = 1.0  # nobody runs: what is left is the embedding
    x = model.normalized(model.embedded(TOKENS))
    assert torch.equal(model(TOKENS), x @ model.token_embedding.T)


@pytest.mark.parametrize("gain", ["straight-through", "scaled"])
def test_the_loss_is_the_divergence_from_the_teacher_with_the_top_k_running(gain):
    model = elastic(gain=gain, router_loss=0.3).train()
    teacher, k, guesses, divergence = teacher_of(model), 3, [], 0.0

    def top(_, g):
        chosen = g.topk(k).indices.sort().values
        wanted = torch.zeros(T, dtype=torch.float64)
        wanted[chosen] = 1
        guesses.append(-(wanted * g.log() + (1 - wanted) * (1 - g).log()).mean())
        return chosen

    with torch.no_grad():
        for row in range(B):
            student = by_hand(model, TOKENS[row], top).log_softmax(1)
            right = teacher(TOKENS[row : row + 1])[0].log_softmax(1)
            divergence += (right.exp() * (right - student)).sum(1).mean() / B
    expected = divergence + 0.3 * torch.stack(guesses).mean()
    torch.testing.assert_close(model.distillation(TOKENS, k), expected)


def test_the_gradient_of_a_score_is_that_of_a_scale_at_one_less_its_mean():
    model = elastic().train()
    x, chosen = model.embedded(TOKENS), torch.ones(B, T, dtype=torch.bool)
    scale = torch.ones(B, T, 1, dtype=torch.float64, requires_grad=True)
    scores = torch.zeros(B, T, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(B, T, C, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (model._through(L - 1, x, chosen, scores) * weight).sum().backward()
    ((x + scale * (model.run_layer(L - 1, x) - x)) * weight).sum().backward()
    expected = scale.grad[..., 0]
    torch.testing.assert_close(scores.grad, expected - expected.mean(1, keepdim=True))


def test_the_divergence_moves_scores_and_the_cross_entropy_only_the_guess():
    model = elastic(router_loss=0.0).train()
    model.distillation(TOKENS, 4).backward()
    assert model.part.weight.grad.any()
    assert model.part.bias.grad is None or not model.part.bias.grad.any()
    alone = {name: torch.zeros(()) for name in ("weight", "bias", "log_slope")}
    for router_loss in (1.0, 3.0):
        model.zero_grad()
        model.router_loss = router_loss
        model.distillation(TOKENS, 4).backward()
        for name, before in alone.items():
            now = model.part.get_parameter(name).grad
            if router_loss == 3.0:
                times = 1 if name == "weight" else 3
                torch.testing.assert_close(now, times * before)
            alone[name] = now.clone()


def test_routers_alone_train_and_learn_to_leave_out_what_matters_least():
    model = elastic(least=0.3, most=0.9).train()
    model.dropout_generator = torch.Generator().manual_seed(0)
    routers = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in routers) == L * (C + 2)
    optimizer = torch.optim.Adam(routers, lr=0.03)
    before = model.distillation(TOKENS, 4).item()
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(TOKENS, TOKENS).backward()
        optimizer.step()
    assert all(p.grad is None for n, p in model.named_parameters() if not n.startswith("part."))
    assert model.distillation(TOKENS, 4).item() < before


def test_shares_are_drawn_from_the_stream_of_the_run():
    model = elastic(least=0.1, most=1.0).train()
    drawn = []
    model.distillation = lambda tokens, k: drawn.append(k)
    before = torch.get_rng_state()
    for default in (torch.float32, torch.float64):  # which is the caller's affair
        model.dropout_generator = torch.Generator().manual_seed(7)
        with default_dtype(default):
            for _ in range(50):
                model.loss(TOKENS, TOKENS)
    assert drawn[:50] == drawn[50:]
    assert set(drawn) == set(range(1, T + 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_at_random_it_is_the_share_that_the_threshold_leaves_and_always_the_same():
    model = elastic(threshold=0.25)
    model.at_random = True
    tokens = TOKENS.repeat(40, 1)
    assert torch.equal(model(tokens), model(tokens))
    assert model.tokens_run / model.tokens_seen == pytest.approx(0.75 * L, rel=0.1)


def test_with_a_depth_all_tokens_run_through_the_first_layers():
    model = elastic(threshold=0.5)
    for depth in (1, 2, L):
        assert torch.equal(model(TOKENS, depth), teacher_of(model)(TOKENS, depth))
