"""How often verdicts are wrong."""

import re

from baselines import error_rates
from baselines.error_rates import iqm_coverage, normal, skewed, verdict_rates


def test_false_verdicts_are_rarer_than_one_in_twenty():
    for draw in (normal, skewed):
        better, worse = verdict_rates(draw, draw, n=5, effect=0, experiments=400)
        assert better + worse < 0.05
        assert min(better, worse) >= 0


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
    error_rates.main(experiments=10)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    cases = len(error_rates.PAIRS) * len(error_rates.SEEDS)
    assert len(lines) == 2 + cases + 2 + len(error_rates.SEEDS)
    assert all(re.search(r"\| \d+\.\d % \|$", line) for line in lines[2 : 2 + cases])
