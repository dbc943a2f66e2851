"""Metrics of predictions against what is true, as GLUE has them (Wang et al. 2019).

Where a metric is undefined, since all predictions or all truths are the same or a prediction is
no finite number, it is 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.generic]


def accuracy(predicted: Values, true: Values) -> float:
    """The share of predictions that are right."""
    return float(np.mean(predicted == true))


def f1(predicted: Values, true: Values) -> float:
    """The harmonic mean of precision and recall of class 1, of two."""
    both = np.sum((predicted == 1) & (true == 1))
    either = np.sum(predicted == 1) + np.sum(true == 1)
    return float(2 * both / either) if either else 0.0


def matthews_correlation(predicted: Values, true: Values) -> float:
    """The correlation of two classifications (Matthews 1975; for more classes Gorodkin 2004)."""
    classes = np.union1d(predicted, true)
    of_predicted = (predicted[:, None] == classes).astype(np.float64)
    of_true = (true[:, None] == classes).astype(np.float64)
    of_predicted -= of_predicted.mean(0)
    of_true -= of_true.mean(0)
    spread = np.sum(of_predicted**2) * np.sum(of_true**2)
    return float(np.sum(of_predicted * of_true) / np.sqrt(spread)) if spread > 0 else 0.0


def pearson(predicted: Values, true: Values) -> float:
    """The linear correlation."""
    if not (_varies(predicted) and _varies(true)):
        return 0.0
    from scipy import stats  # takes seconds to import

    return float(stats.pearsonr(predicted, true).statistic)


def spearman(predicted: Values, true: Values) -> float:
    """The correlation of ranks."""
    if not (_varies(predicted) and _varies(true)):
        return 0.0
    from scipy import stats

    return float(stats.spearmanr(predicted, true).statistic)


def _varies(values: Values) -> bool:
    return bool(np.all(np.isfinite(values)) and np.any(values != values[0]))


METRICS = {
    function.__name__: function
    for function in (accuracy, f1, matthews_correlation, pearson, spearman)
}
"""Each by its name."""
