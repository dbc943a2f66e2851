"""Labels as they stand in files, and the numbers that they become."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tiegym.data.splits import SPLITS

MOST = 100_000
"""Classes; more are no classes."""


def number_classes(
    labels: Mapping[str, Sequence[Any]], corpus: str, names: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    """The names of the classes, and the number of each row's class.

    Args:
        labels: Of each split: strings or whole numbers, as a file or a data set has them.
        corpus: What messages call it.
        names: The names that the whole numbers stand for, if a data set tells. Otherwise the
            classes are the labels of the training split, sorted: by value if all are whole
            numbers.

    Raises:
        ValueError: If a label is missing, no class (3.5), or not in the training split; or if there
            is one class only, or about as many as rows.
    """
    found = {
        split: [_label(value, corpus, split, row) for row, value in enumerate(values, start=1)]
        for split, values in labels.items()
    }
    seen = set(found["train"])
    if len(seen) < 2:
        raise ValueError(
            f"corpus={corpus!r}: all rows of the training split have one label, "
            f"{next(iter(seen), None)!r}: there is nothing to tell apart"
        )
    if len(seen) > min(MOST, len(found["train"]) // 2):
        raise ValueError(
            f"corpus={corpus!r}: the training split has {len(seen)} different labels in "
            f"{len(found['train'])} rows: that is no class, but a name or a text of its own. For "
            "scores, call the column 'score'"
        )
    if names:
        known = {str(number): number for number in range(len(names))}
    else:
        known = {label: number for number, label in enumerate(_sorted(seen))}
    for split in SPLITS:
        for row, label in enumerate(found[split], start=1):
            if label not in known:
                raise ValueError(
                    f"corpus={corpus!r}: row {row} of the {split} split has the label {label!r}, "
                    f"which {'has no name' if names else 'no row of the training split has'}"
                )
    numbers = {
        split: np.array([known[label] for label in found[split]], dtype=np.int64)
        for split in SPLITS
    }
    return tuple(names) or tuple(known), numbers


def read_scores(
    labels: Mapping[str, Sequence[Any]], corpus: str
) -> dict[str, npt.NDArray[np.float32]]:
    """The score of each row.

    Raises:
        ValueError: If one is missing or no finite number, or all of the training split are equal.
    """
    scores = {}
    for split in SPLITS:
        values = []
        for row, value in enumerate(labels[split], start=1):
            try:
                score = math.nan if isinstance(value, bool) else float(value)
            except (TypeError, ValueError, OverflowError):
                score = math.nan
            if not abs(score) <= float(np.finfo(np.float32).max):  # what it is kept as
                raise ValueError(
                    f"corpus={corpus!r}: row {row} of the {split} split has the score {value!r}, "
                    "which is no finite number of 32 bits"
                )
            values.append(score)
        scores[split] = np.array(values, dtype=np.float32)
    if np.ptp(scores["train"]) == 0:
        raise ValueError(
            f"corpus={corpus!r}: all rows of the training split have one score, "
            f"{scores['train'][0]}: there is nothing to learn"
        )
    return scores


def _label(value: Any, corpus: str, split: str, row: int) -> str:
    where = f"corpus={corpus!r}: row {row} of the {split} split"
    if isinstance(value, float) and value.is_integer():  # JSON's whole numbers are read as such
        value = int(value)
    if value is None or value in ("", -1, "-1"):
        raise ValueError(
            f"{where} has no label ({value!r}): label it, remove it, or bring another split"
        )
    if isinstance(value, bool | int | str):
        text = str(value)
        if text.isascii() or text.encode("utf-8", "replace").decode() == text:
            return text
        raise ValueError(f"{where} has the label {value!r}, which is not UTF-8: write it so")
    raise ValueError(
        f"{where} has the label {value!r}, but a label is a string or a whole number. For scores, "
        "call the column 'score'"
    )


def _sorted(labels: set[str]) -> list[str]:
    if all(label.isdecimal() and label.isascii() and len(label) < 19 for label in labels):
        return sorted(labels, key=int)
    return sorted(labels)
