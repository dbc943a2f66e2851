"""Statistics of a few runs."""

import numpy as np
import pytest

from baselines.intervals import (
    interquartile_mean,
    iqm_interval,
    paired_difference,
    probability_of_improvement,
)


def test_the_interquartile_mean_leaves_a_quarter_out_on_either_side():
    assert interquartile_mean([100, 1, 2, 3, 4, 5, 6, -100]) == pytest.approx(3.5)
    assert interquartile_mean([1, 2, 30]) == pytest.approx(11)  # a quarter of three is none


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [iqm_interval(rng.normal(5, 1, size=20)) for _ in range(60)]
    covered = sum(i.low <= 5 <= i.high for i in intervals)
    assert 50 <= covered <= 60


def test_intervals_are_the_same_every_time():
    values = [3.0, 1.0, 4.0, 1.5, 5.0]
    assert iqm_interval(values) == iqm_interval(values)


def test_one_run_has_no_interval():
    assert iqm_interval([3.0]) == (3.0, None, None)


def test_the_probability_of_improvement_counts_pairs_with_ties_as_halves():
    assert probability_of_improvement([1, 2], [3, 4]).value == 1
    assert probability_of_improvement([1, 3], [3, 4]).value == pytest.approx(3.5 / 4)
    assert probability_of_improvement([2, 2], [2, 2]).value == 0.5


def test_a_paired_difference_is_sharper_than_the_spread_over_seeds():
    base = np.array([1.0, 5.0, 9.0, 13.0])
    difference = paired_difference(base + np.array([0.9, 1.0, 1.1, 1.0]), base)
    assert difference.value == pytest.approx(1.0)
    assert difference.low > 0.8
    with pytest.raises(ValueError, match="paired samples of 1 and 2"):
        paired_difference([1.0], [1.0, 2.0])
