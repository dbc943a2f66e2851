"""The text of a corpus, by split: from this machine's files, a hub, or a grammar.

Text becomes tokens in `tiegym.data.corpora`.
"""

from __future__ import annotations

import hashlib
import re
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import datasets

SPLITS = ("train", "validation", "test")

HUB = {
    "wikitext-2": "Salesforce/wikitext:wikitext-2-raw-v1",
    "wikitext-103": "Salesforce/wikitext:wikitext-103-raw-v1",
    "lambada": "cimec/lambada",
    "lm1b": "dvruette/lm1b",
    "ptb": "ptb-text-only/ptb_text_only",
    "tiny-shakespeare": "karpathy/tiny_shakespeare",
}
"""Named data sets with their place on the Hugging Face hub, ID[:CONFIG]."""

Texts = dict[str, str]

TABLES = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
"""File types that hold rows, with the `datasets` builder of each; all others are text."""

SHARES = (0.90, 0.95)
"""Where a text without splits of its own is cut into train, validation and test."""

_SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
_NOT_LIBRARY = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}


def validate_corpus(name: str) -> None:
    """Checks a corpus's name without reading anything.

    Raises:
        ValueError: If it is unknown.
        FileNotFoundError: If it is a path and there is nothing.
    """
    if name == "stdlib" or name in HUB:
        return
    if name.startswith("synthetic:"):
        if not re.fullmatch(r"synthetic:[1-9]\d*", name):
            raise ValueError(f"corpus={name!r}: write synthetic:N with N >= 1 characters")
        return
    if name.startswith("hf:"):
        if not re.fullmatch(r"hf:[^:\s]+(:[^:\s]+)?", name):
            raise ValueError(f"corpus={name!r}: write hf:ID or hf:ID:CONFIG")
        return
    if Path(name).exists():
        return
    if re.search(r"[/\\.]", name):
        raise FileNotFoundError(f"corpus={name!r}: there is no such file or folder")
    raise ValueError(
        f"corpus={name!r} is unknown: choose stdlib, {', '.join(HUB)}, hf:ID[:CONFIG], "
        "synthetic:N, or the path of a file or folder"
    )


def read_texts(name: str) -> Texts:
    """The text of each split of a corpus that `validate_corpus` lets pass; raises as there."""
    if name == "stdlib":
        return _split_files(_standard_library())
    if name.startswith("synthetic:"):
        return _cut(_synthetic(int(name.removeprefix("synthetic:"))))
    if name in HUB or name.startswith("hf:"):
        return _from_hub(name)
    return _from_path(Path(name))


def _standard_library() -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(root.rglob("*.py"))
    return [f for f in files if not _NOT_LIBRARY & set(f.relative_to(root).parts)]


def _from_path(path: Path) -> Texts:
    """A file, or all files below a folder but hidden ones."""
    if path.is_file():
        if path.suffix.lower() in TABLES:
            return _cut_rows(_rows(path))
        return _cut(_read(path))
    files = sorted(
        f
        for f in path.rglob("*")
        if f.is_file() and not any(part.startswith(".") for part in f.relative_to(path).parts)
    )
    if not files:
        raise ValueError(f"corpus={str(path)!r} is a folder without files")
    named = {s: [f for f in files if _is_named(f, s)] for s in SPLITS}
    if named["train"]:
        texts = {split: "".join(map(_read, named[split])) for split in SPLITS}
        return _complete(texts)
    if len(files) == 1:
        return _from_path(files[0])
    return _split_files(files)


def _is_named(file: Path, split: str) -> bool:
    return file.name.lower().split(".")[0] in _SPLIT_NAMES[split]


def _split_files(files: Iterable[Path]) -> Texts:
    """Whole files to each split, in the order of their content's hash; duplicates are dropped."""
    contents = {hashlib.sha256(text.encode()).digest(): text for text in map(_read, files) if text}
    ordered = [contents[key] for key in sorted(contents)]
    if len(ordered) < 3:
        return _cut("".join(ordered))
    ends = np.cumsum([len(text) for text in ordered])
    first, second = np.searchsorted(ends, [share * ends[-1] for share in SHARES], side="left")
    first = min(max(int(first), 1), len(ordered) - 2)
    second = min(max(int(second), first + 1), len(ordered) - 1)
    parts = ordered[:first], ordered[first:second], ordered[second:]
    return {split: "".join(part) for split, part in zip(SPLITS, parts, strict=True)}


def _cut(text: str) -> Texts:
    """A text without splits, cut by position."""
    first, second = (int(share * len(text)) for share in SHARES)
    return dict(zip(SPLITS, (text[:first], text[first:second], text[second:]), strict=True))


def _cut_rows(rows: list[str]) -> Texts:
    """The same between rows."""
    first, second = (int(share * len(rows)) for share in SHARES)
    parts = rows[:first], rows[first:second], rows[second:]
    return {split: "".join(part) for split, part in zip(SPLITS, parts, strict=True)}


def _complete(texts: Texts) -> Texts:
    """Takes a missing validation or test split from the end of train, a twentieth each."""
    twentieth = max(1, len(texts["train"]) // 20)
    for split in ("test", "validation"):
        if not texts.get(split):
            texts[split] = texts["train"][-twentieth:]
            texts["train"] = texts["train"][:-twentieth]
    return texts


def _read(path: Path) -> str:
    """A file's text, ending with a line end; what isn't UTF-8 becomes the replacement sign."""
    if path.suffix.lower() in TABLES:
        return "".join(_rows(path))
    text = path.read_bytes().decode("utf-8", errors="replace")
    return text if text.endswith("\n") or not text else text + "\n"


def _rows(path: Path) -> list[str]:
    import datasets

    builder = TABLES[path.suffix.lower()]
    try:
        table = datasets.load_dataset(builder, data_files=str(path.resolve()), split="train")
    except Exception as error:  # the builders raise whatever their parsers do
        raise ValueError(f"{str(path)!r} can't be read as {builder}: {error}") from error
    return _lines(table, str(path))


def _lines(table: datasets.Dataset, name: str) -> list[str]:
    """The rows of the text column, each with its line end."""
    strings = [
        column
        for column, feature in table.features.items()
        if getattr(feature, "dtype", None) in ("string", "large_string")
    ]
    for usual in ("text", "sentence"):
        if usual in strings:
            strings = [usual]
    if len(strings) != 1:
        raise ValueError(
            f"{name} needs a column 'text', or just one column of strings; it has the columns "
            f"{', '.join(table.column_names)}"
        )
    rows = ((row or "").encode("utf-8", "replace").decode() for row in table[strings[0]])
    return [row if row.endswith("\n") else row + "\n" for row in rows]


def _from_hub(name: str) -> Texts:
    import datasets

    from tiegym.data import hub

    identity, _, configuration = (HUB.get(name) or name.removeprefix("hf:")).partition(":")
    arguments = (identity, configuration or None)
    try:
        with hub.offline_if_unreachable():
            try:
                loaded = datasets.load_dataset(*arguments)
            except RuntimeError:  # a data set that is a script; the hub has it converted, too
                loaded = datasets.load_dataset(*arguments, revision="refs/convert/parquet")
    except Exception as error:  # the library raises many kinds, by what went wrong where
        raise OSError(
            f"corpus={name!r} could not be loaded ({type(error).__name__}: {error}). Without a "
            "network, either give the path of a local copy (a folder with train.*, validation.* "
            "and test.* as text, JSON lines, CSV or Parquet), or copy the Hugging Face cache of "
            "a machine that has it and point HF_HOME to it"
        ) from error
    splits = {"train": "train", "validation": "validation", "test": "test"}
    texts = {
        split: "".join(_lines(loaded[key], f"{name}, split {key},"))
        for split, key in splits.items()
        if key in loaded
    }
    if "train" not in texts:
        raise ValueError(f"corpus={name!r} has no split 'train'; it has {', '.join(loaded)}")
    return _complete(texts)


def _synthetic(n: int) -> str:
    """Sentences of a small grammar with agreement in number, n characters, always the same."""
    rng = np.random.default_rng(0)
    nouns = ("cat", "dog", "bird", "child", "teacher", "robot", "river", "tree")
    verbs = ("see", "chase", "find", "know", "follow", "like", "hear", "draw")
    adjectives = ("small", "old", "red", "quiet", "happy", "strange")
    pieces: list[str] = []
    length = 0
    while length < n:
        plural = rng.integers(2, size=2)
        picks = rng.integers(len(nouns), size=2), rng.integers(len(adjectives), size=2)
        phrases = [
            f"{'the' if k else ('some' if plural[k] else 'a')} {adjectives[picks[1][k]]} "
            f"{nouns[picks[0][k]]}{'s' if plural[k] else ''}"
            for k in range(2)
        ]
        verb = verbs[rng.integers(len(verbs))] + ("" if plural[0] else "s")
        sentence = f"{phrases[0]} {verb} {phrases[1]}.\n"
        pieces.append(sentence)
        length += len(sentence)
    return "".join(pieces)[:n]
