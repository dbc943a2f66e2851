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
from tiegym.data.text_files import NotTextError, read_text

_BESIDE = ("readme", "license", "licence", "copying", "notice", "citation", "dataset_card")
_DESCRIPTIONS = {
    *("config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"),
}
"""What describes a data set beside its rows; the list of the library `datasets`."""

_PROGRAM = re.compile(
    r"\.(?:py|pyi|ipynb|js|mjs|cjs|jsx|ts|tsx|vue|css|scss|html|c|h|cc|cpp|cxx|hh|hpp|cu|mm?|cs|fs|"
    r"java|kts?|scala|groovy|go|rs|rb|php|p[lm]|lua|r|jl|swift|dart|sh|bash|zsh|fish|ps1|bat|sql|hs|"
    r"mli?|clj|exs?|erl|elm?|lisp|scm|f|f9[05]|pas|d|zig|nim|v|sv|vhd|asm|s|cmake|mk|gradle|toml|"
    r"ya?ml|cfg|ini)"
)
"""Source code: a program called train.py trains, and is no training split."""


@dataclass(frozen=True)
class _File:
    """A file of the folder: where it is, what messages call it, which splits it is named for."""

    path: Path
    name: str
    named: frozenset[str]


def read_folder(folder: Path) -> Texts:
    """The text of each split of a folder.

    If all files are named for a split, by their own names or by those of their folders, that is
    where they go. If none is, they are dealt out; so they are if only programs are named for
    validation and test, or nothing is. Any other mixture is refused. A warning names the files
    that are left out because they are no text.

    Raises:
        ValueError: If there is no text, or names leave in doubt what belongs to which split.
        OSError: If something can't be read.
    """
    notes: list[str] = []
    files = [_file(path, folder) for path in _find(folder, notes)]
    if not files and not notes:
        raise ValueError(f"corpus={str(folder)!r} is a folder without files")
    data = _without_descriptions(files)
    by_split = _by_split(data, folder)
    if by_split is None and not all(tables.is_table(file.path) for file in data):
        data = files  # among texts, a README is one
    texts = _read(data, notes)
    if not any(texts.values()):
        why = _some(notes) or "all of them are empty"
        raise ValueError(f"corpus={str(folder)!r} is a folder without files of text: {why}")
    if notes:
        warnings.warn(f"corpus={str(folder)!r}: {_some(notes)}", stacklevel=2)
    if by_split is not None:
        joined = {s: "".join(texts[file] or "" for file in by_split[s]) for s in SPLITS}
        return splits.complete(joined)
    if len(data) == 1 and tables.is_table(data[0].path):
        return splits.cut_rows(tables.read_rows(data[0].path))
    return splits.deal(text for text in texts.values() if text)


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


def _without_descriptions(files: list[_File]) -> list[_File]:
    """The files but READMEs, licences and the like, if there are others."""

    def describes(file: _File) -> bool:
        name = file.path.name.lower()
        return name in _DESCRIPTIONS or name.startswith(_BESIDE)

    return [file for file in files if not describes(file)] or files


def _by_split(files: list[_File], folder: Path) -> dict[str, list[_File]] | None:
    """The files of each split; None if their names don't tell and all are to be dealt out."""
    for file in files:
        if len(file.named) > 1 and not _is_program(file):
            raise ValueError(
                f"corpus={str(folder)!r}: the name of {file.name!r} means {_and(file.named)}: "
                "rename the file or its folder"
            )
    by_split = {s: [file for file in files if file.named == {s}] for s in SPLITS}
    clear = sum(map(len, by_split.values()))
    if not clear:
        return None
    if clear == len(files):
        if by_split["train"]:
            return by_split
        raise ValueError(
            f"corpus={str(folder)!r} has no training text: all of its files are named for "
            f"validation or test, such as {files[0].name!r}. To train on a file nevertheless, "
            "give its own path"
        )
    held_out = [*by_split["validation"], *by_split["test"]]
    other = next(file for file in files if len(file.named) != 1)
    if all(map(_is_program, held_out)):
        if train := [file for file in by_split["train"] if not _is_program(file)]:
            warnings.warn(
                f"corpus={str(folder)!r}: {train[0].name!r} is named for training, but others, "
                f"such as {other.name!r}, are named for no split: all files are dealt out alike",
                stacklevel=3,
            )
        return None
    raise ValueError(
        f"corpus={str(folder)!r}: some files are named for a split, such as "
        f"{held_out[0].name!r}, and others are not, such as {other.name!r}: name all of them "
        "(train, validation, test), or none, or move the others out of the folder"
    )


def _is_program(file: _File) -> bool:
    return _PROGRAM.fullmatch(file.path.suffix.lower()) is not None


def _read(files: list[_File], notes: list[str]) -> dict[_File, str | None]:
    """The text of each file; None for what is left out, as the notes then say."""
    is_mixed = any(not tables.is_table(file.path) for file in files)
    texts: dict[_File, str | None] = {}
    for file in files:
        try:
            texts[file] = _text(file)
        except NotTextError as error:
            if file.named:  # it may be what the corpus is to be
                raise ValueError(f"{error}; by its name it is for {_and(file.named)}") from error
            notes.append(f"{file.name} is left out (binary)")
            texts[file] = None
        except ValueError:
            # Among texts, a .json file may be anything: the settings of a program, say.
            if file.named or not is_mixed or file.path.suffix.lower() != ".json":
                raise
            notes.append(f"{file.name} is read as it stands (no rows of text)")
            texts[file] = read_text(file.path)
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
