"""Metrics against values by hand and those of scikit-learn and SciPy."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as reference

from tiegym.data.tasks import metrics, squad_metrics
from tiegym.data.tasks.predictions import Predictions


def test_accuracy_f1_and_matthews_by_hand():
    true, predicted = np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0, 0, 0])
    assert metrics.accuracy(predicted, true) == 6 / 8
    assert metrics.f1(predicted, true) == pytest.approx(2 / 3)  # precision and recall are 2/3
    # (2 * 4 - 1 * 1) / sqrt(3 * 3 * 5 * 5)
    assert metrics.matthews_correlation(predicted, true) == pytest.approx(7 / 15)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_classes_as_scikit_learn_has_them(n_classes):
    rng = np.random.default_rng(n_classes)
    for _ in range(20):
        true, noise = rng.integers(n_classes, size=(2, 40))
        predicted = np.where(rng.random(40) < 0.5, true, noise)
        assert metrics.accuracy(predicted, true) == reference.accuracy_score(true, predicted)
        assert metrics.matthews_correlation(predicted, true) == pytest.approx(
            reference.matthews_corrcoef(true, predicted)
        )
        if n_classes == 2:
            assert metrics.f1(predicted, true) == pytest.approx(reference.f1_score(true, predicted))


def test_correlations_by_hand_and_as_scipy_has_them():
    assert metrics.pearson(np.array([1.0, 2, 3]), np.array([1.0, 2, 6])) == pytest.approx(
        5 / np.sqrt(2 * 14)
    )
    assert metrics.spearman(np.array([1.0, 2, 3]), np.array([1.0, 2, 60])) == pytest.approx(1)
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.normal(size=(2, 30)).astype(np.float32).round(1)
        assert metrics.pearson(x, y) == pytest.approx(stats.pearsonr(x, y)[0], abs=1e-6)
        assert metrics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-6)


def test_what_is_undefined_is_zero():
    same, other = np.zeros(4), np.array([0, 1, 0, 1])
    for name in ("f1", "matthews_correlation", "pearson", "spearman"):
        assert metrics.METRICS[name](same, same) == 0
        assert metrics.METRICS[name](same, other) == 0
    assert metrics.pearson(np.array([1.0, np.nan]), np.array([1.0, 2.0])) == 0


@pytest.mark.parametrize(
    ("predicted", "true", "exact", "f1"),
    [
        ("The Broncos!", "broncos", 1, 1),
        ("Denver  Broncos", "the Denver Broncos.", 1, 1),
        ("Denver", "Denver Broncos", 0, 2 / 3),
        ("a cat sat", "cat and the dog", 0, 2 * 1 / (2 + 3)),  # articles count for nothing
        ("to be or to go", "to be to be", 0, 2 * 3 / (5 + 4)),  # words count as often as they occur
        ("Carolina", "Denver", 0, 0),
        ("theatre an hour", "theatre hour", 1, 1),  # "the" is removed as a word only
        ("U.S.", "us", 1, 1),
        ("...", "the", 1, 0),  # nothing is left of either: version 1 gives no F1 for that
        ("1,000", "1000", 1, 1),
        ("jean-luc", "jeanluc", 1, 1),
    ],
)
def test_squads_rules(predicted, true, exact, f1):
    assert squad_metrics.exact_match(predicted, true) == exact
    assert squad_metrics.f1(predicted, true) == pytest.approx(f1)


def test_the_best_of_several_answers_counts():
    answers = ("Denver Broncos", "Broncos", "the team of Denver")
    assert squad_metrics.best(squad_metrics.exact_match, "broncos", answers) == 1
    assert squad_metrics.best(squad_metrics.f1, "Denver", answers) == pytest.approx(2 / 3)


def test_predictions_of_several_batches_are_measured_together():
    scores = Predictions(["pearson"])
    scores.add({"logits": torch.tensor([[1.0], [2.0]])}, torch.tensor([1.0, 2.0]))
    scores.add({"logits": torch.tensor([[3.0]])}, torch.tensor([6.0]))
    assert scores.figures() == {"pearson": pytest.approx(5 / np.sqrt(2 * 14))}
    tokens = Predictions(["accuracy"])
    logits = torch.eye(4)[torch.tensor([[0, 1, 2], [3, 3, 3]])]
    tokens.add({"logits": logits}, torch.tensor([[0, -100, 1], [3, -100, 3]]))
    assert tokens.figures() == {"accuracy": 3 / 4}
    with pytest.raises(ValueError, match="nothing to measure"):
        Predictions(["accuracy"]).figures()
