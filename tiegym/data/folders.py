"""A folder as a corpus: which of its files are text, and which split each belongs to."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tiegym.data import splits, tables
from tiegym.data.splits import SPLITS, Texts
from tiegym.data.text_files import is_binary, read_text

_DESCRIPTION = re.compile(
    r"(?:readme|licen[cs]e|copying|notice|citation)(?:[-_][\w-]{1,12})?(?:\.(?:md|txt|rst|html|cff))?"
    r"|config\.json|dataset_infos?\.json|dataset_dict\.json|state\.json"
)
"""What stands beside data and describes it; the last are those of the library `datasets`."""

_ABOUT = re.compile(
    r"\.(?:py|pyi|ipynb|js|mjs|cjs|jsx|ts|tsx|vue|css|scss|c|h|cc|cpp|cxx|hh|hpp|cu|mm?|cs|fs|java|"
    r"kts?|scala|groovy|go|rs|rb|php|p[lm]|lua|r|jl|swift|dart|sh|bash|zsh|fish|ps1|bat|sql|hs|mli?|"
    r"clj|exs?|erl|elm?|lisp|scm|f|f9[05]|pas|d|zig|nim|v|sv|vhd|asm|s|cmake|mk|gradle|toml|ya?ml|"
    r"cfg|ini|md|rst|adoc|org|tex|html?)"
)
"""Programs and pages: train.py trains and evaluation.md is about it; neither is a split."""


@dataclass(frozen=True)
class _File:
    """A file of the folder: where it is, what messages call it, which splits it is named for."""

    path: Path
    name: str
    named: frozenset[str]


def read_folder(folder: Path) -> Texts:
    """The text of each split of a folder.

    If all files are named for a split, by their own names or by those of their folders, that is
    where they go. If none is, or only programs and pages among others are, all are dealt out. Any
    other mixture is refused. A warning names the files that are left out because they are no text.

    Raises:
        ValueError: If there is no text, or names leave in doubt what belongs to which split.
        OSError: If something can't be read.
    """
    notes: list[str] = []
    files = list(_texts_and_tables(folder, notes))
    if not files:
        what = f"files of text: {_some(notes)}" if notes else "files"
        raise ValueError(f"corpus={str(folder)!r} is a folder without {what}")
    data = [file for file in files if not _describes(file)] or files
    by_split = _by_split(data, folder)
    if by_split is not None:
        paths = {split: [file.path for file in by_split[split]] for split in SPLITS}
        splits.check_different(paths, str(folder))
        texts = {split: "".join(_read(by_split[split], notes)) for split in SPLITS}
        for split in SPLITS:
            if by_split[split] and not texts[split]:
                raise ValueError(f"{str(by_split[split][0].path)!r} is empty; it is for {split}")
        texts = splits.complete(texts)
    elif len(data) == 1 and tables.is_table(data[0].path):
        texts = splits.cut_rows(tables.read_rows(data[0].path))
    else:
        all_rows = all(tables.is_table(file.path) for file in data)
        texts = splits.deal(_read(data if all_rows else files, notes))  # among texts, READMEs are
    if notes:
        warnings.warn(f"corpus={str(folder)!r}: {_some(notes)}", stacklevel=2)
    return texts


def _texts_and_tables(folder: Path, notes: list[str]) -> Iterator[_File]:
    """The files but binary ones, which the notes name."""
    for path in _find(folder, notes):
        file = _file(path, folder)
        if tables.is_table(path) or not is_binary(path):
            yield file
        elif file.named:  # it may be what the corpus is to be
            raise ValueError(
                f"{str(path)!r} holds NUL bytes: it is binary, not text; but by its name it is "
                f"for {_and(file.named)}"
            )
        else:
            notes.append(f"{file.name} is left out (binary)")


def _file(path: Path, folder: Path) -> _File:
    relative = path.relative_to(folder)
    return _File(path, str(relative), frozenset(splits.named(relative)))


def _find(folder: Path, notes: list[str]) -> Iterator[Path]:
    """All files below a folder, sorted, but hidden ones; links are followed, once each."""
    found: list[Path] = []
    seen = set()

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # a loop of links, or a second link
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(place, name) for name in names if not name.startswith(".")]
    for path in sorted(found):
        if path.is_file():
            yield path
        else:  # a pipe or device would block or never end
            what = "a broken link" if path.is_symlink() else "no regular file"
            notes.append(f"{path.relative_to(folder)} is left out ({what})")


def _describes(file: _File) -> bool:
    return _DESCRIPTION.fullmatch(file.path.name.lower()) is not None


def _by_split(files: list[_File], folder: Path) -> dict[str, list[_File]] | None:
    """The files of each split; None if their names don't tell and all are to be dealt out."""
    for file in files:
        if len(file.named) > 1 and not _is_about(file):
            raise ValueError(
                f"corpus={str(folder)!r}: the name of {file.name!r} means {_and(file.named)}: "
                "rename the file or its folder"
            )
    by_split = {s: [file for file in files if file.named == {s}] for s in SPLITS}
    clear = sum(map(len, by_split.values()))
    if not clear:
        return None
    if clear == len(files) and by_split["train"]:
        return by_split
    named = [file for file in files if file.named and not _is_about(file)]
    if not named:
        return None
    if clear == len(files):
        raise ValueError(
            f"corpus={str(folder)!r} has no training text: all of its files are named for "
            f"validation or test, such as {named[0].name!r}. To train on a file nevertheless, "
            "give its own path"
        )
    other = next(file for file in files if len(file.named) != 1)
    raise ValueError(
        f"corpus={str(folder)!r}: some files are named for a split, such as {named[0].name!r}, "
        f"and others are not, such as {other.name!r}: name all of them (train, validation, test), "
        "or none, or move the others out of the folder"
    )


def _is_about(file: _File) -> bool:
    return _ABOUT.fullmatch(file.path.suffix.lower()) is not None


def _read(files: list[_File], notes: list[str]) -> list[str]:
    """The text of each file."""
    is_mixed = any(not tables.is_table(file.path) for file in files)
    texts = []
    for file in files:
        try:
            texts.append(_text(file))
        except ValueError:
            # Among texts, a .json file may be anything: the settings of a program, say.
            if file.named or not is_mixed or file.path.suffix.lower() != ".json":
                raise
            notes.append(f"{file.name} is read as it stands (no rows of text)")
            texts.append(read_text(file.path))
    return texts


def _text(file: _File) -> str:
    if tables.is_table(file.path):
        return "".join(tables.read_rows(file.path))
    return read_text(file.path)


def _and(names: frozenset[str]) -> str:
    return " and ".join(s for s in SPLITS if s in names)


def _some(notes: list[str]) -> str:
    more = f", and {len(notes) - 5} more" if len(notes) > 5 else ""
    return ", ".join(notes[:5]) + more
