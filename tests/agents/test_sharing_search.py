"""The search over sharings: the descent against all of them, and uniform draws."""

import time
from collections import Counter

import numpy as np
import pytest

from agents.sharing_model import FEATURES, SharingModel, n_groups
from agents.sharing_search import best_sharing, descend, draw, of_size
from tests.agents.made_tables import planted
from tiegym.bench.tree import sharings


def random_model(seed):
    rng = np.random.default_rng(seed)
    return SharingModel({name: rng.normal() for name in FEATURES}, 0.0, 1.0)


@pytest.mark.parametrize("n_layer", [6, 7])
@pytest.mark.parametrize("size", [2, 3, 4, None])
def test_the_descent_finds_the_best_of_all(n_layer, size):
    for seed in range(6):
        cost = random_model(seed).predict
        every = sharings(n_layer)
        best = cost(every if size is None else every[n_groups(every) == size]).min()
        ends = descend(cost, n_layer, size, seed=0)
        assert cost(ends).min() == pytest.approx(best)
        assert size is None or set(n_groups(ends)) == {size}
        assert best_sharing(cost, n_layer, size).tolist() in every.tolist()
        assert cost(best_sharing(cost, n_layer, size)[None])[0] == pytest.approx(best)


def test_of_equal_ones_the_smallest_and_first_is_taken():
    def alike(groups):
        return np.zeros(len(groups))

    assert best_sharing(alike, 6, None).tolist() == [0] * 6
    assert best_sharing(alike, 6, 3).tolist() == [0, 0, 0, 0, 4, 5]


def test_deep_sharings_are_found_soon_and_always_the_same():
    began = time.process_time()
    best = best_sharing(planted, 48, 8)
    assert time.process_time() - began < 10
    assert n_groups(best[None]) == 8
    # The first layer's weights are its own, and the other groups are runs.
    assert planted(best[None])[0] == pytest.approx(3 - 0.2 * 40 / 47)
    assert best_sharing(planted, 12, 4).tolist() == best_sharing(planted, 12, 4).tolist()


@pytest.mark.parametrize("size", [1, 3, 5, 6])
def test_draws_are_uniform_over_the_sharings_of_a_size(size):
    every = of_size(6, size)
    drawn = draw(6, size, 9000, np.random.default_rng(1))
    counts = Counter(map(tuple, drawn.tolist()))
    assert counts.keys() == set(map(tuple, every.tolist()))
    expected = 9000 / len(every)
    assert all(abs(n - expected) < 5 * expected**0.5 for n in counts.values())


def test_the_sharings_of_a_size_are_all_or_many_drawn():
    assert len(of_size(6, 3)) == 90
    many = of_size(48, 8)
    assert many.shape == (2000, 48)
    assert set(n_groups(many)) == {8}
    np.testing.assert_array_equal(many, of_size(48, 8))
