"""When a policy is called better."""

import numpy as np
import pytest
from scipy import stats

from tiegym.analysis.intervals import Difference, Interval
from tiegym.analysis.verdicts import Comparison, compare_losses

UNDECIDED = "no difference shown"


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        ((-0.3, -0.01), "better"),
        ((0.01, 0.3), "worse"),
        ((-0.1, 0.2), UNDECIDED),
        ((-0.3, 0.0), UNDECIDED),
        ((0.0, 0.3), UNDECIDED),
    ],
)
@pytest.mark.parametrize("probability", [(0.51, 1.0), (0.0, 0.49), (0.2, 0.9)])
def test_the_difference_decides_and_the_probability_does_not(probability, difference, verdict):
    compared = Comparison(Interval(0.5, *probability), Difference(0.0, *difference, 0.04), 4)
    assert compared.verdict == verdict


def test_a_probability_of_paired_runs_resamples_seeds():
    """Of runs that differ by their seeds only, each resampled pair is as even as the first."""
    spread = dict(enumerate([3.0, 9.0, 1.0, 7.0, 5.0]))
    paired = compare_losses(spread, spread).probability
    assert paired == (0.5, 0.5, 0.5)
    shifted = {seed + 100: loss for seed, loss in spread.items()}
    unpaired = compare_losses(spread, shifted).probability
    assert unpaired.low < 0.4 < 0.6 < unpaired.high


def test_too_few_seeds_have_no_verdict():
    far = {seed: seed / 100 for seed in range(9)}, {seed: 5 + seed / 70 for seed in range(9)}

    def verdict(n, m):
        return compare_losses(
            dict(list(far[0].items())[:n]), dict(list(far[1].items())[:m])
        ).verdict

    assert verdict(1, 9) == verdict(9, 1) == "1 seed: too few to say"
    assert verdict(9, 3) == verdict(3, 9) == verdict(3, 3) == "3 seeds: too few to say"
    assert verdict(9, 4) == verdict(4, 9) == "better"


def test_runs_are_paired_by_seed_in_whatever_order_and_number_they_come():
    spread = dict(enumerate([3.0, 9.0, 1.0, 7.0, 5.0, 2.0, 8.0, 6.0]))  # far wider than the effect
    noise = dict(enumerate([0.01, -0.02, 0.02, 0.0, -0.01, 0.01, 0.0, -0.01]))
    ours = {seed: spread[seed] - 0.1 + noise[seed] for seed in (5, 0, 2, 4, 3)}
    theirs = {seed: spread[seed] for seed in (7, 4, 3, 6, 1, 2, 5)}
    compared = compare_losses(ours, theirs)
    shared = [2, 3, 4, 5]
    assert compared.seeds == len(shared)
    expected = stats.ttest_rel([ours[s] for s in shared], [theirs[s] for s in shared])
    assert compared.difference.p_value == pytest.approx(expected.pvalue)
    assert compared.difference.high < 0
    pairs = [(ours[s] < theirs[t]) for s in shared for t in shared]
    assert compared.probability.value == pytest.approx(np.mean(pairs))


def test_policies_that_share_too_few_seeds_are_compared_unpaired():
    ours = dict(zip((0, 1, 2, 3, 4), (1.0, 1.1, 1.2, 1.0, 1.1), strict=True))
    theirs = dict(zip((4, 5, 6, 7), (1.9, 2.3, 2.1, 2.2), strict=True))
    compared = compare_losses(ours, theirs)
    assert compared.seeds == 4
    assert compared.verdict == "better"
    expected = stats.ttest_ind(list(ours.values()), list(theirs.values()), equal_var=False)
    assert compared.difference.p_value == pytest.approx(expected.pvalue)
    assert compare_losses(theirs, ours).verdict == "worse"


def test_runs_that_are_equal_bit_by_bit_show_no_difference():
    same = dict(enumerate([1.0, 2.0, 3.0, 4.0]))
    assert compare_losses(same, same).verdict == UNDECIDED
    assert compare_losses(same, same).difference == (0, 0, 0, 1)
