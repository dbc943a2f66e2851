"""Labelled texts, one or two a row: of GLUE, of the hub, of a user's files."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tiegym.data import hub
from tiegym.data.table_files import Columns
from tiegym.data.tasks import glue, library_code
from tiegym.data.tasks.division import complete
from tiegym.data.tasks.row_files import files_of_splits, read_columns, require_text

PAIRS = (
    ("text", "text2"),
    ("text1", "text2"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
)
"""Names of the columns of two texts, as data sets have them."""

SINGLE = ("text", "sentence")
"""Names of the column of one text."""

LABELS = ("label", "score")
"""Names of the column of classes, and of that of scores."""

_WANTED = {*SINGLE, *LABELS, *(name for pair in PAIRS for name in pair)}
_LOCAL = (
    "a table with the columns text, text2 and label, or a folder of such tables, train.*, "
    "validation.* and test.*"
)


class LabelledText(NamedTuple):
    """A row: a text, perhaps a second one, and a label as its source has it."""

    first: str
    second: str | None
    label: Any


@dataclass(frozen=True)
class LabelledTexts:
    """What a source holds.

    Attributes:
        rows: Of each split.
        is_score: Whether labels are scores, and not classes.
        metric_names: Its own metrics; empty for the usual ones.
        label_names: What its numbers of classes stand for, if it tells.
    """

    rows: dict[str, list[LabelledText]]
    is_score: bool
    metric_names: tuple[str, ...] = ()
    label_names: tuple[str, ...] = ()


def read(corpus: str) -> LabelledTexts:
    """The labelled texts of a corpus that `validate_task` lets pass.

    Raises:
        ValueError: If columns are missing, splits are in doubt or empty, or a file is damaged.
        OSError: If a data set can't be had, or a file can't be read.
    """
    if corpus == "stdlib":
        rows = {
            split: [LabelledText(text, None, package) for text, package in found]
            for split, found in library_code.pieces_of_packages().items()
        }
        return LabelledTexts(complete(rows, _key, corpus), is_score=False)
    if corpus.startswith("glue:"):
        return _read_glue(corpus)
    source = _read_hub(corpus) if corpus.startswith("hf:") else _read_files(corpus)
    if len({row.second is None for rows in source.rows.values() for row in rows}) > 1:
        raise ValueError(f"corpus={corpus!r}: some rows have one text, and others have two")
    return source


def _read_glue(corpus: str) -> LabelledTexts:
    task = glue.TASKS[corpus.removeprefix("glue:")]
    loaded = hub.load(corpus, glue.PLACE, task.configuration, _LOCAL)
    places = {"train": "train", "test": task.test}
    missing = [place for place in places.values() if place not in loaded]
    if missing:
        raise ValueError(
            f"corpus={corpus!r} has no split {missing[0]!r}; it has {', '.join(loaded)}"
        )
    found = {
        split: _rows(
            *hub.columns(loaded[place], {*task.columns, "label"}), f"{corpus}, split {place}"
        )
        for split, place in places.items()
    }
    names = _class_names(loaded["train"])
    is_score = "pearson" in task.metrics
    rows = complete(found, _key, corpus)
    return LabelledTexts(rows, is_score, task.metrics, () if is_score else names)


def _read_hub(corpus: str) -> LabelledTexts:
    identity, _, configuration = corpus.removeprefix("hf:").partition(":")
    loaded = hub.load(corpus, identity, configuration or None, _LOCAL)
    places = hub.keys_of_splits(loaded, corpus)
    found: dict[str, list[LabelledText]] = {}
    for split, keys in places.items():
        for key in keys:
            rows = _rows(*hub.columns(loaded[key], _WANTED), f"{corpus}, split {key}")
            found.setdefault(split, []).extend(rows)
    first = loaded[places["train"][0]]
    is_score = "score" in first.column_names or _is_float(first)
    return LabelledTexts(complete(found, _key, corpus), is_score, (), _class_names(first))


def _read_files(corpus: str) -> LabelledTexts:
    found: dict[str, list[LabelledText]] = {}
    kinds: dict[bool, Path] = {}
    for split, files in files_of_splits(Path(corpus), corpus).items():
        found[split] = []
        for file in files:
            columns, names = read_columns(file, _WANTED)
            kinds["score" in columns] = file
            found[split] += _rows(columns, names, str(file))
    if len(kinds) > 1:
        raise ValueError(
            f"corpus={corpus!r}: {str(kinds[True])!r} has scores, but {str(kinds[False])!r} has "
            "labels"
        )
    return LabelledTexts(complete(found, _key, corpus), is_score=True in kinds)


def _key(row: LabelledText) -> str:
    """What decides its split: its first text, which data sets use in several rows."""
    return row.first


def _class_names(table: Any) -> tuple[str, ...]:
    """What the labels of a data set stand for, if it tells."""
    feature = table.features.get("label")
    return tuple(getattr(feature, "names", None) or ())


def _is_float(table: Any) -> bool:
    return str(getattr(table.features.get("label"), "dtype", "")).startswith("float")


def _rows(columns: Columns, names: Collection[str], where: str) -> list[LabelledText]:
    """The rows of a table.

    Args:
        columns: Of those that are known, the ones that it has.
        names: Of all of its columns.
        where: What messages call it.
    """
    there = f"it has the columns {', '.join(names) or '(none)'}"
    pairs = [pair for pair in PAIRS if set(pair) <= set(columns)]
    singles = [(name,) for name in SINGLE if name in columns]
    texts = [tuple(pair) for pair in pairs] or singles
    if len(texts) != 1:
        known = ", ".join("+".join(pair) for pair in PAIRS)
        raise ValueError(
            f"{where} needs a column of texts, {' or '.join(SINGLE)}, or two, such as {known}, "
            f"and just one of these; {there}"
        )
    labels = [name for name in LABELS if name in columns]
    if len(labels) != 1:
        raise ValueError(f"{where} needs a column of classes, label, or of scores, score; {there}")
    first, *rest = (require_text(columns[name], f"{where}, column {name!r}") for name in texts[0])
    second: list[Any] = rest[0] if rest else [None] * len(first)
    return [LabelledText(*row) for row in zip(first, second, columns[labels[0]], strict=True)]
