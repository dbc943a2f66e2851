"""Exact match and F1 of answers: the rules of SQuAD's own evaluation (Rajpurkar et al. 2016)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize(answer: str) -> str:
    """Lower case, without punctuation, without the articles a, an and the, one space between words.

    Examples:
        >>> normalize("The  U.S. Army, a force")
        'us army force'
    """
    plain = answer.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def exact_match(predicted: str, true: str) -> float:
    """1 if both are equal once they are normalised, else 0."""
    return float(normalize(predicted) == normalize(true))


def f1(predicted: str, true: str) -> float:
    """The harmonic mean of precision and recall over words, which count as often as they occur."""
    of_predicted, of_true = normalize(predicted).split(), normalize(true).split()
    shared = (Counter(of_predicted) & Counter(of_true)).total()
    return 2 * shared / (len(of_predicted) + len(of_true)) if shared else 0.0


def best(metric: Callable[[str, str], float], predicted: str, answers: Sequence[str]) -> float:
    """The metric's largest value over all answers that count as right."""
    return max(metric(predicted, answer) for answer in answers)
