"""How often verdicts are wrong."""

import re

from baselines import error_rates
from baselines.error_rates import best_of_several_rates, iqm_coverage, normal, skewed, verdict_rates


def test_false_verdicts_are_one_in_twenty():
    for correlation in (0.0, 0.8):
        rates = verdict_rates(normal, normal, 5, 0, experiments=2000, correlation=correlation)
        assert 0.035 < sum(rates) < 0.065
        assert min(rates) > 0.01
    assert sum(verdict_rates(skewed, skewed, n=5, effect=0, experiments=2000)) < 0.065


def test_paired_seeds_find_what_unpaired_ones_miss():
    """Ten seeds correlated at 0.8 find a difference of one standard deviation nearly always."""
    found, wrong = verdict_rates(normal, normal, 10, 1, experiments=2000, correlation=0.8)
    assert found > 0.97
    assert wrong == 0


def test_the_best_of_several_patterns_makes_a_policy_seldom_worse_for_nothing():
    for patterns in (1, 4, 12):
        for n in (4, 10):
            better, worse = best_of_several_rates(patterns, n, experiments=1000)
            assert better < 0.05
            assert 0 < worse < 0.05


def test_large_effects_are_found_and_more_seeds_find_smaller_ones():
    better, worse = verdict_rates(normal, normal, n=5, effect=2, experiments=200)
    assert better > 0.55
    assert worse == 0
    more, _ = verdict_rates(normal, normal, n=10, effect=1, experiments=200)
    fewer, _ = verdict_rates(normal, normal, n=5, effect=1, experiments=200)
    assert more > fewer + 0.1


def test_coverage_rises_with_seeds():
    assert iqm_coverage(normal, 20, 300) > iqm_coverage(normal, 4, 300) > 0.7


def test_made_up_losses_have_mean_zero_and_deviation_one():
    rng = error_rates.np.random.default_rng(1)
    for draw in (normal, skewed):
        losses = draw(rng, 400_000)
        assert abs(losses.mean()) < 0.01
        assert abs(losses.std() - 1) < 0.05


def test_the_program_prints_a_line_for_every_case(capsys):
    error_rates.main(["--experiments", "10"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    seeds = len(error_rates.SEEDS)
    cases = (len(error_rates.PAIRS) + 1) * seeds
    assert len(lines) == (2 + cases) + (2 + 3 * seeds) + (2 + seeds)
    assert all(re.search(r"\| \d+\.\d % \|$", line) for line in lines[2 : 2 + cases])
