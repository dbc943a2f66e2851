"""When one policy is called better than another. How often that is wrong: `error_rates`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tiegym.analysis.intervals import (
    Difference,
    Interval,
    paired_difference,
    probability_of_improvement,
    unpaired_difference,
)

LEAST_SEEDS = 4
"""Of either policy, for a verdict. Three find less than a third of the differences of two standard
deviations, and whether losses are as Student's interval takes them to be can't be seen in three."""


@dataclass(frozen=True)
class Comparison:
    """How a policy did compared with another, on a loss that is to be low."""

    probability: Interval
    """That it has the lower loss, in a pair of runs: an estimate, which decides nothing."""
    difference: Difference
    """Of the mean losses, negative where it is better."""
    seeds: int
    """That both policies have; where they don't share enough, the runs of the one with fewer."""

    @property
    def verdict(self) -> str:
        """What may be said of it; see `verdict`."""
        return verdict(self.difference, self.seeds)


def verdict(difference: Difference, seeds: int) -> str:
    """Says "better" or "worse" where Student's 95 % interval of the difference leaves out 0.

    That is the paired t-test where runs are paired, and Welch's where they aren't. It is wrong in
    5 % of the cases without a difference, and no second condition takes its power away
    (`baselines.error_rates` measures both).

    Args:
        difference: Of the mean losses, ours less theirs.
        seeds: As in `Comparison`.
    """
    if seeds < LEAST_SEEDS:
        return f"{seeds} seed{'s' * (seeds > 1)}: too few to say"
    assert difference.low is not None
    assert difference.high is not None
    if difference.high < 0:
        return "better"
    if difference.low > 0:
        return "worse"
    return "no difference shown"


def compare_losses(
    ours: Mapping[int, float], theirs: Mapping[int, float], choices: int = 1
) -> Comparison:
    """Compares two policies by the losses of their runs.

    A seed fixes the first weights and the order of batches, so runs of one seed are paired, and
    those of a seed that one policy lacks are left out. Policies that share too few seeds for a
    verdict are compared over all of their runs, as independent samples.

    Args:
        ours: The loss of each run, by seed; at least one.
        theirs: The same of the other policy.
        choices: Policies that the other one is the best of, on the same runs; see
            `tiegym.analysis.intervals.paired_difference`.
    """
    shared = sorted(ours.keys() & theirs.keys())
    paired = len(shared) >= min(LEAST_SEEDS, len(ours), len(theirs))
    if paired:
        a, b = [ours[seed] for seed in shared], [theirs[seed] for seed in shared]
        difference = paired_difference(a, b, choices)
    else:
        a, b = list(ours.values()), list(theirs.values())
        difference = unpaired_difference(a, b, choices)
    probability = probability_of_improvement(a, b, paired)
    return Comparison(probability, difference, min(len(a), len(b)))
