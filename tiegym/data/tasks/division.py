"""Rows without splits of their own are dealt out by what they hold, never by where they stand.

A file sorted by label would otherwise have classes in its test split that training never saw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from tiegym.data.splits import SHARES, SPLITS

Row = TypeVar("Row")


def deal(
    keys: Sequence[str | bytes], shares: Sequence[float] = SHARES, what: str = "rows"
) -> list[list[int]]:
    """Numbers of rows for each part, in their order; rows of the same key stay together.

    Keys go into the parts in the order of their SHA-256, so that neither the order of the rows nor
    a generator decides.

    Args:
        keys: Of each row: a text or an image.
        shares: Where the rows are cut, from 0 to 1; one part more than there are numbers.
        what: What messages call the rows.

    Raises:
        ValueError: If there are fewer keys than parts.

    Examples:
        >>> [len(part) for part in deal([str(k) for k in range(100)])]
        [90, 5, 5]
    """
    hashes = [sha256(key) for key in keys]
    order = sorted(range(len(keys)), key=lambda row: (hashes[row], row))
    groups = [list(group) for _, group in groupby(order, key=lambda row: hashes[row])]
    n_parts = len(shares) + 1
    if len(groups) < n_parts:
        raise ValueError(
            f"{len(groups)} different {what} can't be split into {n_parts} parts that share none: "
            "bring more, or splits of your own"
        )
    parts: list[list[int]] = [[] for _ in range(n_parts)]
    part = before = 0
    for left, group in zip(range(len(groups), 0, -1), groups, strict=True):
        is_full = part < n_parts - 1 and before >= round(shares[part] * len(keys))
        if parts[part] and (is_full or left == n_parts - 1 - part):
            part += 1
        parts[part] += group
        before += len(group)
    return [sorted(rows) for rows in parts]


def complete(
    rows: Mapping[str, Sequence[Row]], key: Callable[[Row], str | bytes], corpus: str
) -> dict[str, list[Row]]:
    """Takes a missing validation or test split from train, a twentieth each.

    Args:
        rows: Of the splits that there are.
        key: What of a row decides where it goes; rows of one key go to one split.
        corpus: What messages call the data.

    Raises:
        ValueError: If a split would be empty.
    """
    made = {split: list(rows.get(split, ())) for split in SPLITS}
    wanted = ["train", *(s for s in ("validation", "test") if s not in rows)]
    if len(wanted) > 1:
        whole = made["train"]
        try:
            parts = deal([key(row) for row in whole], SHARES[1 - len(wanted) :])
        except ValueError as error:
            raise ValueError(f"corpus={corpus!r}: {error}") from error
        for split, numbers in zip(wanted, parts, strict=True):
            made[split] = [whole[number] for number in numbers]
    for split in SPLITS:
        if not made[split]:
            raise ValueError(f"corpus={corpus!r}: the {split} split is empty")
    return made


def deal_files(texts: Iterable[str], share: float) -> dict[str, list[str]]:
    """Whole files to each split; duplicates are dropped.

    In the order of their hashes, a file goes to the test split if there is room for it, else to the
    validation split, else to train: a large one always trains.

    Args:
        texts: Of each file.
        share: Of all characters, for which the test split has room, and the validation split.
    """
    ordered = sorted(set(texts), key=sha256)
    room = {split: share * sum(map(len, ordered)) for split in ("test", "validation")}
    dealt: dict[str, list[str]] = {split: [] for split in SPLITS}
    for text in ordered:
        split = next((split for split in room if len(text) <= room[split]), "train")
        if split != "train":
            room[split] -= len(text)
        dealt[split].append(text)
    return dealt


def sha256(key: str | bytes) -> bytes:
    """The hash that decides."""
    content = key.encode("utf-8", "replace") if isinstance(key, str) else key
    return hashlib.sha256(content).digest()
