"""Statistics of a few runs: interquartile mean, bootstrap intervals, probability of improvement.

The measures are those of Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the
Statistical Precipice". Every resampling has a fixed seed, so that a table is made again bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Sample = Sequence[float] | npt.NDArray[np.floating]


class Interval(NamedTuple):
    """A figure with its 95 % bootstrap confidence interval; the bounds are None for one run."""

    value: float
    low: float | None
    high: float | None


def interquartile_mean(values: Sample) -> float:
    """Mean of the middle half: a quarter of the runs (rounded down) is left out on either side."""
    return float(stats.trim_mean(np.asarray(values, dtype=float), 0.25))


def iqm_interval(values: Sample) -> Interval:
    """Interquartile mean over seeds with its interval."""
    return _bootstrap((values,), interquartile_mean)


def probability_of_improvement(ours: Sample, theirs: Sample) -> Interval:
    """Probability that a run of ours has the lower value, ties counted as a half.

    It is the Mann-Whitney U statistic over the number of pairs. Both samples are resampled.
    """
    return _bootstrap((ours, theirs), _share_lower)


def paired_difference(ours: Sample, theirs: Sample) -> Interval:
    """Mean of ours minus theirs over the same seeds, in the same order, with its interval.

    Raises:
        ValueError: If the samples differ in length.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"paired samples of {len(ours)} and {len(theirs)} runs: give equal seeds")
    return _bootstrap((np.subtract(ours, theirs),), lambda d: float(np.mean(d)))


def _share_lower(ours: Sample, theirs: Sample) -> float:
    a, b = np.asarray(ours)[:, None], np.asarray(theirs)[None, :]
    return float(np.mean((a < b) + 0.5 * (a == b)))


def _bootstrap(samples: tuple[Sample, ...], statistic: Callable[..., float]) -> Interval:
    arrays = tuple(np.asarray(sample, dtype=float) for sample in samples)
    value = statistic(*arrays)
    if any(len(array) < 2 for array in arrays):
        return Interval(value, None, None)
    if all(np.ptp(array) == 0 for array in arrays):
        return Interval(value, value, value)
    interval = stats.bootstrap(
        arrays, statistic, vectorized=False, n_resamples=2000, method="percentile", rng=0
    ).confidence_interval
    return Interval(value, float(interval.low), float(interval.high))
