"""The standard library of the running interpreter as labelled text: which package is this from?

Real text that every machine has. Six packages have many files and much text in every Python that is
supported. Whole files go to the splits, so that no piece of a file that is tested was trained on;
every package has equally many pieces in a split, so that a guess is right one time in six.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tiegym.data.sources import read_source, standard_library
from tiegym.data.splits import SPLITS
from tiegym.data.tasks.division import deal_files, sha256

PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "unittest", "xml")
"""The classes."""

LENGTH = 200
"""Characters of a piece, at least; it ends with a line."""

SHARE = 0.15
"""Of the text of a package, for the test split, and for the validation split."""


def pieces_of_packages() -> dict[str, list[tuple[str, str]]]:
    """Pieces of source code and their packages, by split; no piece is in two, or twice in one."""
    root = Path(sysconfig.get_paths()["stdlib"])
    seen: set[str] = set()
    pieces: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    files = [(path.relative_to(root).parts[0], path) for path in standard_library()]
    for package in PACKAGES:
        texts = [read_source(path) for top, path in files if top == package]
        for split, whole in deal_files(texts, SHARE).items():
            found = [piece for text in whole for piece in _cut(text)]
            pieces[split][package] = [p for p in dict.fromkeys(found) if p not in seen]
            seen.update(found)
    made: dict[str, list[tuple[str, str]]] = {}
    for split, by_package in pieces.items():
        least = min(map(len, by_package.values()))
        made[split] = [
            (piece, package)
            for package, found in by_package.items()
            for piece in sorted(found, key=sha256)[:least]
        ]
    return made


def _cut(text: str) -> Iterator[str]:
    """Pieces of whole lines; what remains at the end is left out."""
    piece = ""
    for line in text.splitlines(keepends=True):
        piece += line
        if len(piece) >= LENGTH:
            yield piece
            piece = ""
