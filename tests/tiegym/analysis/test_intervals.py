"""Statistics of a few runs."""

import numpy as np
import pytest
from scipy import stats

from tiegym.analysis.intervals import (
    holm,
    interquartile_mean,
    iqm_interval,
    mean_interval,
    paired_difference,
    power,
    probability_of_improvement,
    smallest_difference,
    unpaired_difference,
)


def test_the_interquartile_mean_leaves_a_quarter_out_on_either_side():
    assert interquartile_mean([100, 1, 2, 3, 4, 5, 6, -100]) == pytest.approx(3.5)
    assert interquartile_mean([1, 2, 30]) == pytest.approx(11)  # a quarter of three is none


@pytest.mark.parametrize(("n", "least", "most"), [(5, 0.93, 0.97), (20, 0.93, 0.97)])
def test_a_difference_covers_the_truth_as_often_as_it_says(n, least, most):
    rng = np.random.default_rng(0)

    def covers(compare, n_theirs):
        d = compare(rng.normal(3, 1, n), rng.normal(1, 2, n_theirs))
        return d.low <= 2 <= d.high

    paired = np.mean([covers(paired_difference, n) for _ in range(2000)])
    unpaired = np.mean([covers(unpaired_difference, n + 3) for _ in range(2000)])
    assert least <= paired <= most
    assert least <= unpaired <= most


@pytest.mark.parametrize(("n", "least", "most"), [(5, 0.80, 0.91), (20, 0.91, 0.97)])
def test_the_interval_of_the_iqm_covers_too_little_with_few_seeds(n, least, most):
    rng = np.random.default_rng(0)
    intervals = [iqm_interval(rng.normal(5, 1, n)) for _ in range(400)]
    assert least <= np.mean([i.low <= 5 <= i.high for i in intervals]) <= most


def test_intervals_are_the_same_every_time():
    values = [3.0, 1.0, 4.0, 1.5, 5.0]
    assert iqm_interval(values) == iqm_interval(values)


def test_one_run_has_no_interval():
    assert iqm_interval([3.0]) == (3.0, None, None)
    assert paired_difference([3.0], [2.0]) == (1.0, None, None, None)
    assert unpaired_difference([3.0], [2.0, 2.0]) == (1.0, None, None, None)


def test_the_interval_of_a_mean_is_students():
    values = [3.0, 1.0, 4.0, 1.5, 5.0]
    error = np.std(values, ddof=1) / len(values) ** 0.5
    bounds = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
    assert mean_interval(values) == pytest.approx((np.mean(values), *bounds))
    with pytest.raises(ValueError, match=r"1 value\(s\) have no interval: give 2 or more"):
        mean_interval([3.0])


def test_the_probability_of_improvement_counts_pairs_with_ties_as_halves():
    assert probability_of_improvement([1, 2], [3, 4]).value == 1
    assert probability_of_improvement([1, 3], [3, 4]).value == pytest.approx(3.5 / 4)
    assert probability_of_improvement([2, 2], [2, 2]).value == 0.5
    low, high = probability_of_improvement([1, 3], [3, 4])[1:]
    assert low == pytest.approx(0.5)  # both resampled to 3: against 3 and 4 or 3 and 3
    assert high == 1


def test_a_paired_difference_is_sharper_than_the_spread_over_seeds():
    base = np.array([1.0, 5.0, 9.0, 13.0])
    difference = paired_difference(base + np.array([0.9, 1.0, 1.1, 1.0]), base)
    assert difference.value == pytest.approx(1.0)
    assert difference.low > 0.8
    with pytest.raises(ValueError, match="paired samples of 1 and 2"):
        paired_difference([1.0], [1.0, 2.0])


def test_differences_are_those_of_the_t_tests():
    ours, theirs, more = [1.0, 2.5, 2.0, 4.0], [2.0, 2.4, 4.0, 7.0], [8.0, 1.0, 3.0]
    for mine, test in [
        (paired_difference(ours, theirs), stats.ttest_rel(ours, theirs)),
        (unpaired_difference(ours, more), stats.ttest_ind(ours, more, equal_var=False)),
    ]:
        assert mine.p_value == pytest.approx(test.pvalue)
        assert mine[1:3] == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_differences_that_do_not_vary_have_no_width():
    assert paired_difference([1.0, 2.0], [1.0, 2.0]) == (0, 0, 0, 1)
    assert paired_difference([1.0, 2.0], [2.0, 3.0]) == (-1, -1, -1, 0)
    assert unpaired_difference([1.0, 1.0], [1.0, 1.0, 1.0]) == (0, 0, 0, 1)


def test_holms_correction_is_that_of_the_definition():
    assert holm([]) == []
    assert holm([0.03]) == [0.03]
    # 4 x 0.01; 3 x 0.02; 2 x 0.025 is less than the one before it; 1 x 0.9
    assert holm([0.02, 0.9, 0.01, 0.025]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.7, 0.8]) == [1, 1]


@pytest.mark.parametrize(("n", "wanted", "level"), [(2, 0.5, 0.1), (5, 0.8, 0.05), (20, 0.9, 0.01)])
def test_the_smallest_difference_is_found_as_often_as_wanted(n, wanted, level):
    d = smallest_difference(n, wanted, level)
    differences = np.random.default_rng(0).normal(d, 1, (20_000, n))
    found = stats.ttest_1samp(differences, 0, axis=1).pvalue < level
    # Four standard deviations of a share of so many.
    assert found.mean() == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 20_000) ** 0.5)


def test_power_is_that_of_the_noncentral_t_distribution():
    bound = stats.t.isf(0.025, 9)
    for d in (-0.7, 0.1, 1.0):
        found, other_side = (
            stats.nct.sf(bound, 9, d * 10**0.5),
            stats.nct.cdf(-bound, 9, d * 10**0.5),
        )
        assert power(d, 10) == pytest.approx(found + other_side, rel=1e-9)


def test_the_smallest_differences_of_textbooks_are_found():
    # What programs for planning say of two-sided tests at 5 % with a power of 80 %: ten pairs show
    # 0.996 standard deviations, and for a medium effect of 0.5 it takes 34.
    assert smallest_difference(10) == pytest.approx(0.9960, abs=5e-5)
    assert smallest_difference(34) < 0.5 < smallest_difference(33)


def test_power_and_the_smallest_difference_are_inverse():
    for seeds, wanted, level in [(2, 0.8, 0.0005), (3, 0.06, 0.05), (10, 0.999, 0.05)]:
        d = smallest_difference(seeds, wanted, level)
        assert power(d, seeds, level) == power(-d, seeds, level) == pytest.approx(wanted, abs=1e-6)
    assert power(0, 7, 0.03) == pytest.approx(0.03)


def test_more_seeds_find_smaller_differences_and_stricter_tests_only_larger_ones():
    by_seeds = [smallest_difference(n) for n in (2, 3, 5, 10, 20, 100, 1000)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    assert by_seeds[-1] == pytest.approx((1.959964 + 0.841621) / 1000**0.5, rel=2e-3)  # normal
    by_level = [smallest_difference(5, level=level) for level in (0.2, 0.05, 0.01, 0.001)]
    assert by_level == sorted(by_level)
    by_power = [smallest_difference(5, wanted) for wanted in (0.1, 0.5, 0.9, 0.99)]
    assert by_power == sorted(by_power)
    found = [power(d, 10) for d in np.geomspace(1e-3, 1e3, 200)]
    assert found == sorted(found)
    assert found[-1] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seeds": 1}, "seeds=1 are too few: a paired t-test takes at least 2"),
        ({"level": 0.0}, "level=0.0 is out of range: give a number between 0 and 1"),
        ({"level": float("nan")}, "level=nan is out of range"),
        (
            {"wanted": 1.0},
            "power=1.0 is out of range: give a number between the level, 0.05, and 1",
        ),
        ({"wanted": 0.05}, "power=0.05 is out of range"),
    ],
)
def test_what_no_test_can_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        smallest_difference(**{"seeds": 10, **arguments})


def test_a_difference_is_a_number():
    with pytest.raises(ValueError, match="difference=inf is not finite"):
        power(float("inf"), 10)
