"""Training, validation and test: which split a file's name means, and how text without is split."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np

SPLITS = ("train", "validation", "test")

Texts = dict[str, str]
"""The text of each split."""

SHARES = (0.90, 0.95)
"""Where a text without splits of its own is cut into train, validation and test."""

KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What the library `datasets` takes for the names of splits, in files and in folders."""

_ALLOWED = ((0.85, 0.95), (0.025, 0.10), (0.025, 0.10))
"""Shares of the splits that whole files may give: otherwise some files are cut."""

_MORE = {"train": (), "validation": (), "test": ("held[-_ ]?out", "hold[-_ ]?out")}
_NAME = {
    split: re.compile(
        rf"(?<![^\W\d_])(?:{'|'.join(words + _MORE[split])})"
        r"(?:[-_ ]?(?:set|data|split))?(?![^\W\d_])"
    )
    for split, words in KEYWORDS.items()
}


def named(path: PurePath) -> set[str]:
    """The splits that a path's folders and file name mean, in any case: usually one or none.

    A keyword counts where no letter is beside it: the rule of `datasets`, and a little more.

    Args:
        path: Relative to the corpus's folder.

    Examples:
        >>> named(PurePath("wiki.valid.raw")), named(PurePath("data/Train-00000-of-00001.parquet"))
        ({'validation'}, {'train'})
        >>> named(PurePath("testament.txt"))
        set()
    """
    parts = [part.lower() for part in path.parts]
    return {split for split, name in _NAME.items() if any(map(name.search, parts))}


def check_different(files: Mapping[str, Sequence[Path]], corpus: str) -> None:
    """Makes sure that no file of a split has the content of another split's: none may overlap.

    Args:
        files: Of each split that is there.
        corpus: What messages call it.

    Raises:
        ValueError: If two have, naming both; empty files aside.
        OSError: If one can't be read.
    """
    by_size: dict[int, list[tuple[str, Path]]] = {}
    for split, paths in files.items():
        for path in paths:
            by_size.setdefault(path.stat().st_size, []).append((split, path))
    by_size.pop(0, None)
    for alike in by_size.values():
        if len({split for split, _ in alike}) < 2:
            continue
        seen: dict[bytes, tuple[str, Path]] = {}
        for split, path in alike:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            first = seen.setdefault(digest, (split, path))
            if first[0] != split:
                raise ValueError(
                    f"corpus={corpus!r}: {str(first[1])!r} and {str(path)!r} are the same, "
                    f"but one is for {first[0]} and the other for {split}, which may not overlap: "
                    "leave one of them out"
                )


def cut(text: str) -> Texts:
    """A text without splits, cut by position at `SHARES`."""
    first, second = (int(share * len(text)) for share in SHARES)
    return dict(zip(SPLITS, (text[:first], text[first:second], text[second:]), strict=True))


def cut_rows(rows: Sequence[str]) -> Texts:
    """The same between rows."""
    first, second = (int(share * len(rows)) for share in SHARES)
    parts = rows[:first], rows[first:second], rows[second:]
    return {split: "".join(part) for split, part in zip(SPLITS, parts, strict=True)}


def deal(texts: Iterable[str]) -> Texts:
    """Files' texts to each split, in the order of their hashes; duplicates are dropped.

    Whole files, if that gives every split about its share: else the text is cut by position, and a
    warning says so.
    """
    contents = {hashlib.sha256(text.encode()).digest(): text for text in texts if text}
    ordered = [contents[key] for key in sorted(contents)]
    if len(ordered) < 3:
        return cut("".join(ordered))
    ends = np.cumsum([len(text) for text in ordered])
    first, second = np.searchsorted(ends, [share * ends[-1] for share in SHARES], side="left")
    first = min(max(int(first), 1), len(ordered) - 2)
    second = min(max(int(second), first + 1), len(ordered) - 1)
    lengths = np.diff([0, ends[first - 1], ends[second - 1], ends[-1]])
    shares = lengths / ends[-1]
    if any(not low <= share <= high for share, (low, high) in zip(shares, _ALLOWED, strict=True)):
        warnings.warn(
            f"the {len(ordered)} files of the corpus are too few or differ too much in length to "
            "be split whole: their text is cut at 90 and 95 %, within files",
            stacklevel=2,
        )
        return cut("".join(ordered))
    parts = ordered[:first], ordered[first:second], ordered[second:]
    return {split: "".join(part) for split, part in zip(SPLITS, parts, strict=True)}


def complete(texts: Texts) -> Texts:
    """Takes a missing validation or test split from the end of train, a twentieth each."""
    twentieth = max(1, len(texts["train"]) // 20)
    for split in ("test", "validation"):
        if not texts.get(split):
            texts[split] = texts["train"][-twentieth:]
            texts["train"] = texts["train"][:-twentieth]
    return texts
