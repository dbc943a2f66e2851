"""Statistics of a few runs: means, differences and probabilities with their 95 % intervals.

The interquartile mean and the probability of improvement, with percentile-bootstrap intervals, are
those of Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical
Precipice". Every resampling has a fixed seed, so that a table is made again bit by bit. What is
concluded from the figures is in `tiegym.analysis.verdicts`, how often they are wrong in
`baselines.error_rates`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq

Array = npt.NDArray[np.floating]
Sample = Sequence[float] | Array


class Interval(NamedTuple):
    """A figure with its 95 % bootstrap confidence interval; the bounds are None for one run."""

    value: float
    low: float | None
    high: float | None


class Difference(NamedTuple):
    """A difference of means with Student's 95 % interval and p-value; None for one run."""

    value: float
    low: float | None
    high: float | None
    p_value: float | None


def interquartile_mean(values: Sample) -> float:
    """Mean of the middle half: a quarter of the runs (rounded down) is left out on either side."""
    return float(_iqm(np.asarray(values, dtype=float)))


def iqm_interval(values: Sample) -> Interval:
    """Interquartile mean over seeds with its interval."""
    return _bootstrap((values,), _iqm)


def probability_of_improvement(ours: Sample, theirs: Sample, paired: bool = False) -> Interval:
    """Probability that a run of ours has the lower value, ties counted as a half.

    It is the Mann-Whitney U statistic over the number of pairs, an estimate: verdicts don't rest
    on it.

    Args:
        ours: A value for each run.
        theirs: The same of the other policy.
        paired: Whether both have the same seeds in the same order, which are then resampled
            together; else each sample is resampled for itself.
    """
    if paired:
        return _bootstrap((np.stack([ours, theirs], axis=-1),), _share_lower_of_pairs)
    return _bootstrap((ours, theirs), _share_lower)


def paired_difference(ours: Sample, theirs: Sample, choices: int = 1) -> Difference:
    """Mean of ours minus theirs over the same seeds, in the same order.

    Args:
        ours: A value for each seed.
        theirs: The same of the other policy.
        choices: Policies of which the other one was chosen as the lowest, on the same runs. The
            lower bound, and the p-value of a positive difference, have Bonferroni's correction for
            so many; chance makes the lowest of several look low, never high.

    Raises:
        ValueError: If the samples differ in length.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"paired samples of {len(ours)} and {len(theirs)} runs: give equal seeds")
    differences = np.subtract(ours, theirs)
    value, n = float(np.mean(differences)), len(differences)
    if n < 2:
        return Difference(value, None, None, None)
    return _student(value, float(np.var(differences, ddof=1)) / n, n - 1, choices)


def mean_interval(values: Sample) -> tuple[float, float, float]:
    """The mean of a value for each run, with the bounds of Student's 95 % interval.

    Raises:
        ValueError: If there are fewer than two.
    """
    mean, low, high, _ = paired_difference(values, np.zeros(len(values)))
    if low is None or high is None:
        raise ValueError(f"{len(values)} value(s) have no interval: give 2 or more")
    return mean, low, high


def unpaired_difference(ours: Sample, theirs: Sample, choices: int = 1) -> Difference:
    """Mean of ours minus that of theirs, over seeds that differ: Welch's interval.

    Args:
        ours: A value for each run.
        theirs: The same of the other policy.
        choices: As for `paired_difference`.
    """
    value = float(np.mean(ours) - np.mean(theirs))
    sizes = np.array([len(ours), len(theirs)])
    if sizes.min() < 2:
        return Difference(value, None, None, None)
    squares = np.array([np.var(ours, ddof=1), np.var(theirs, ddof=1)]) / sizes
    variance = float(squares.sum())
    freedom = variance**2 / float((squares**2 / (sizes - 1)).sum()) if variance > 0 else 1.0
    return _student(value, variance, freedom, choices)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values: below 0.05 where a test stands beside all others of its family.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, k in enumerate(sorted(range(len(p_values)), key=lambda k: p_values[k])):
        largest = max(largest, (len(p_values) - rank) * p_values[k])
        adjusted[k] = min(1.0, largest)
    return adjusted


def power(difference: float, seeds: int, level: float = 0.05) -> float:
    """How often the paired t-test finds a difference: the probability of a p-value below the level.

    Exact where paired differences are normal: the square of Student's statistic then has the
    noncentral F distribution.

    Args:
        difference: The true mean of the paired differences, over their standard deviation.
        seeds: Pairs, at least 2.
        level: Of the two-sided test, between 0 and 1. With Bonferroni's correction for m tests it
            is the level of all of them over m.

    Raises:
        ValueError: If an argument is none of these.

    Examples:
        >>> round(power(1.0, seeds=10), 3)
        0.803
    """
    if not math.isfinite(difference):
        raise ValueError(f"difference={difference!r} is not finite: give standard deviations")
    if seeds < 2:
        raise ValueError(f"seeds={seeds!r} are too few: a paired t-test takes at least 2")
    if not 0 < level < 1:
        raise ValueError(f"level={level!r} is out of range: give a number between 0 and 1")
    bound = stats.t.isf(level / 2, seeds - 1)
    noncentrality = max(seeds * difference**2, 1e-20)  # at 0 SciPy 1.17 says level - 1
    return float(stats.ncf.sf(bound**2, 1, seeds - 1, noncentrality))


def smallest_difference(seeds: int, wanted: float = 0.8, level: float = 0.05) -> float:
    """The difference that the paired t-test finds with the wanted `power`; larger ones more often.

    Args:
        seeds: As for `power`.
        wanted: The power, between the level and 1.
        level: As for `power`.

    Returns:
        The mean of the paired differences, over their standard deviation.

    Raises:
        ValueError: If an argument is none of these.

    Examples:
        >>> round(smallest_difference(seeds=10), 3)
        0.996
    """
    power(0.0, seeds, level)  # checks both
    if not level < wanted < 1:
        raise ValueError(
            f"power={wanted!r} is out of range: give a number between the level, {level}, and 1"
        )
    high = 1.0
    while power(high, seeds, level) < wanted:
        high *= 2
    return float(brentq(lambda d: power(d, seeds, level) - wanted, 0.0, high, xtol=1e-10))


def _student(value: float, variance: float, freedom: float, choices: int) -> Difference:
    """The interval and p-value of a mean with the variance of its estimate."""
    if variance == 0:  # runs that are equal bit by bit
        return Difference(value, value, value, float(value == 0))
    error = variance**0.5
    down, up = (error * float(stats.t.isf(0.025 / k, freedom)) for k in (choices, 1))
    p_value = 2 * float(stats.t.sf(abs(value) / error, freedom))
    if value > 0:
        p_value = min(1.0, p_value * choices)
    return Difference(value, value - down, value + up, p_value)


def _iqm(values: Array) -> Array:
    """Over the last axis: (..., n) to (...)."""
    return np.asarray(stats.trim_mean(values, 0.25, axis=-1))


def _share_lower(ours: Array, theirs: Array) -> Array:
    """Over the last axes: (..., n) and (..., m) to (...)."""
    a, b = ours[..., :, None], theirs[..., None, :]
    return np.asarray(((a < b) + 0.5 * (a == b)).mean(axis=(-2, -1)))


def _share_lower_of_pairs(pairs: Array) -> Array:
    """Over the last axes: (..., n, 2) to (...)."""
    return _share_lower(pairs[..., 0], pairs[..., 1])


def _bootstrap(samples: Sequence[Sample], statistic: Callable[..., Array]) -> Interval:
    """The percentile interval over 2,000 resamplings of each sample along its first axis."""
    arrays = [np.asarray(sample, dtype=float) for sample in samples]
    value = float(statistic(*arrays))
    if any(len(array) < 2 for array in arrays):
        return Interval(value, None, None)
    rng = np.random.default_rng(0)
    drawn = [array[rng.integers(len(array), size=(2000, len(array)))] for array in arrays]
    resampled = statistic(*drawn)
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Interval(value, float(low), float(high))
