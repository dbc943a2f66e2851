"""Sampling: which tokens it may draw, how often, and that it is repeatable."""

import pytest
import torch

import tiegym
from tiegym.ties import pattern
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer

SHAPE = Shape(vocab_size=11, n_layer=3, n_head=2, n_embd=8, block_size=6)


@pytest.fixture
def model():
    """A transformer whose predictions differ clearly from token to token."""
    transformer = TiedTransformer(SHAPE, pattern("cycle:2", 3), dropout=0.5)
    transformer.initialize(seed=0)
    with torch.no_grad():
        transformer.token_embedding.mul_(12)
    return transformer.train()


def next_logits(model, tokens):
    training = model.training
    with torch.no_grad():
        logits = model.eval()(tokens[:, -SHAPE.block_size :])[:, -1]
    model.train(training)
    return logits


def test_temperature_zero_takes_the_likeliest_token_and_sees_the_last_block_only(model):
    tokens = torch.tensor([[1, 2], [3, 4]])
    result = tiegym.generate(model, tokens, n_tokens=9, temperature=0)
    assert result.shape == (2, 11)
    assert torch.equal(result[:, :2], tokens)
    for end in range(2, 11):
        assert torch.equal(result[:, end], next_logits(model, result[:, :end]).argmax(1))
    assert torch.equal(result, tiegym.generate(model, tokens, 9, temperature=2.0, top_k=1, seed=5))
    assert model.training  # as it was, though dropout played no part


def test_each_token_is_predicted_from_all_before_it_up_to_block_size(model):
    seen = []
    model.register_forward_hook(lambda module, args, output: seen.append(args[0].clone()))
    result = tiegym.generate(model, torch.tensor([[1, 2]]), n_tokens=9)
    assert len(seen) == 9
    for end, tokens in enumerate(seen, start=2):
        assert torch.equal(tokens, result[:, max(0, end - SHAPE.block_size) : end])


def test_tokens_are_drawn_with_the_probabilities_that_the_model_gives(model):
    tokens = torch.tensor([[7, 1, 5]])
    many = tiegym.generate(model, tokens.expand(20_000, -1), 1, temperature=0.7)
    seen = torch.bincount(many[:, -1], minlength=11) / 20_000
    expected = torch.softmax(next_logits(model, tokens)[0] / 0.7, dim=0)
    assert (expected > 0.02).sum() > 2  # a distribution worth the test
    assert torch.allclose(seen, expected, atol=0.015)


def test_top_k_draws_among_the_likeliest_only(model):
    tokens = torch.tensor([[7, 1, 5]])
    many = tiegym.generate(model, tokens.expand(2000, -1), 1, temperature=3.0, top_k=4)
    likeliest = next_logits(model, tokens)[0].topk(4).indices
    assert set(many[:, -1].tolist()) == set(likeliest.tolist())


def test_a_seed_fixes_the_text_and_the_global_generator_stays_untouched(model):
    tokens = torch.tensor([[0]])
    before = torch.get_rng_state()
    first, again, other = (tiegym.generate(model, tokens, 30, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("tokens", "arguments", "message"),
    [
        ([1, 2], {}, r"shape \(2,\) must be \(B, T\)"),
        ([[]], {}, r"shape \(1, 0\) must be \(B, T\) with T at least 1"),
        ([[1]], {"temperature": -1}, "temperature=-1 must be 0"),
        ([[1]], {"top_k": 0}, "top_k=0 must be at least 1"),
        ([[1]], {"n_tokens": -3}, "n_tokens=-3 must be 0 or more"),
    ],
)
def test_wrong_arguments_are_named(model, tokens, arguments, message):
    with pytest.raises(ValueError, match=message):
        tiegym.generate(model, torch.tensor(tokens), **{"n_tokens": 1} | arguments)
