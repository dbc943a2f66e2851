"""The figures of each layer, by what their docstring says."""

import math

import pytest
import torch

from tiegym import ties
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.layer_stats import FEATURES, layer_stats, sample_weights


@pytest.fixture
def model():
    made = TiedTransformer(Shape(11, 4, 2, 16, 8), ties.parse("0,0,2,0", 4))
    made.initialize(0)
    return made


def figures(model, before):
    """The figures by their names, each a list of its value of every layer."""
    return dict(zip(FEATURES, layer_stats(model, before).T.tolist(), strict=True))


@torch.no_grad()
def test_moved_is_ten_times_the_relative_distance(model):
    before = sample_weights(model)
    for p in model.independent(2).parameters():
        p.mul_(1.03)
    moved = figures(model, before)["moved"]
    assert moved == pytest.approx([0, 0, math.tanh(10 * 0.03), 0], rel=1e-4)


@torch.no_grad()
def test_what_is_private_is_in_no_figure():
    model = TiedTransformer(Shape(11, 4, 2, 16, 8, "norms+scales+lora:2"), ties.pattern("tied", 4))
    model.initialize(0)
    before = sample_weights(model)
    for p in model.private.parameters():
        p.add_(1.0)
        p.grad = torch.ones_like(p)
    assert figures(model, before)["moved"] == [0] * 4
    assert figures(model, before)["gradient"] == figures(model, before)["moved"]


@torch.no_grad()
def test_similarity_is_the_cosine_with_the_layer_before(model):
    for p, its in zip(
        model.independent(2).parameters(), model.independent(0).parameters(), strict=True
    ):
        p.copy_(-3 * its)
    similarity = figures(model, sample_weights(model))["similarity"]
    assert similarity == pytest.approx([1, 1, -1, -1])


def test_gradient_is_the_norm_relative_to_the_mean_over_the_layers(model):
    for layer, size in ((0, 1.0), (2, 5.0)):
        for p in model.independent(layer).parameters():
            p.grad = torch.full_like(p, size)
    mean = (3 * 1.0 + 5.0) / 4  # three layers use the weights of layer 0
    small, large = math.tanh(math.log(1.0 / mean)), math.tanh(math.log(5.0 / mean))
    gradient = figures(model, sample_weights(model))["gradient"]
    assert gradient == pytest.approx([small, small, large, small], rel=1e-4)


@pytest.mark.parametrize("n_embd", [16, 64, 96, 128])
@torch.no_grad()
def test_the_sample_is_of_all_columns_of_all_matrices(n_embd):
    made = TiedTransformer(Shape(11, 2, 2, n_embd, 8), ties.pattern("tied", 2))
    made.initialize(0)
    before = sample_weights(made)
    matrices = [p for p in made.independent(0).parameters() if p.ndim == 2]
    assert len(matrices) == 4
    for matrix in matrices:
        for column in range(0, matrix.shape[1], 7 if n_embd > 64 else 1):
            matrix[:, column] += 1
            assert not torch.equal(sample_weights(made), before)
            matrix[:, column] -= 1
            before = sample_weights(made)
