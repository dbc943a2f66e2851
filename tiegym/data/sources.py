"""The text of a corpus, by split: from this machine's files, a hub, or made.

Which corpora there are, and what reads each. Text becomes tokens in `tiegym.data.corpora`.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

from tiegym.data import folders, hub, splits, synthetic, tables
from tiegym.data.splits import SPLITS, Texts
from tiegym.data.text_files import read_text

__all__ = ["HUB", "SPLITS", "Texts", "read_texts", "validate_corpus"]

HUB = {
    "wikitext-2": "Salesforce/wikitext:wikitext-2-raw-v1",
    "wikitext-103": "Salesforce/wikitext:wikitext-103-raw-v1",
    "lambada": "cimec/lambada",
    "lm1b": "dvruette/lm1b",
    "ptb": "ptb-text-only/ptb_text_only",
    "tiny-shakespeare": "karpathy/tiny_shakespeare",
}
"""Named data sets with their place on the Hugging Face hub, ID[:CONFIG]."""

LONGEST_SYNTHETIC = 1_000_000_000
"""Characters; it is made in memory."""

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
        n = re.fullmatch(r"synthetic:([1-9][0-9]{0,9})", name)
        if not n or int(n[1]) > LONGEST_SYNTHETIC:
            raise ValueError(
                f"corpus={name!r}: write synthetic:N with N >= 1 characters, at most "
                f"{LONGEST_SYNTHETIC:,}"
            )
        return
    if name.startswith("nested:"):
        if not re.fullmatch(r"nested:[2-9]", name):
            raise ValueError(
                f"corpus={name!r}: write nested:N with N from 2 to 9, the letters that the next "
                "one depends on"
            )
        return
    if name.startswith("hf:"):
        hub.validate(name)
        return
    validate_path(
        name,
        f"choose stdlib, {', '.join(HUB)}, hf:ID[:CONFIG], synthetic:N, nested:N, or the path of a "
        "file or folder",
    )


def validate_path(name: str, choice: str) -> None:
    """Checks that a corpus that is none of the known names is a file or a folder.

    Args:
        name: Of the corpus.
        choice: What to choose from, for a name that looks like none of a file.

    Raises:
        ValueError: If it is unknown, or neither a file nor a folder.
        FileNotFoundError: If it is a path and there is nothing.
    """
    if "\0" in name:
        raise ValueError(f"corpus={name!r}: no path holds a NUL character")
    path = Path(name)
    if name and (path.is_file() or path.is_dir()):
        return
    if name and path.exists():
        raise ValueError(f"corpus={name!r} is neither a file nor a folder, but a pipe or a device")
    if re.search(r"[/\\.]", name):
        raise FileNotFoundError(f"corpus={name!r}: there is no such file or folder")
    raise ValueError(f"corpus={name!r} is unknown: {choice}")


def read_texts(name: str) -> Texts:
    """The text of each split of a corpus that `validate_corpus` lets pass; raises as there."""
    if name == "stdlib":
        return splits.deal(map(read_source, standard_library()))
    if name.startswith("synthetic:"):
        return splits.cut(synthetic.grammar(int(name.removeprefix("synthetic:"))))
    if name.startswith("nested:"):
        return synthetic.nested(int(name.removeprefix("nested:")))
    if name in HUB or name.startswith("hf:"):
        return hub.read_texts(name, HUB.get(name) or name.removeprefix("hf:"))
    path = Path(name)
    if path.is_dir():
        return folders.read_folder(path)
    if tables.is_table(path):
        return splits.cut_rows(tables.read_rows(path))
    return splits.cut(read_text(path))


def standard_library() -> list[Path]:
    """The source files of the running interpreter's standard library but its tests, sorted."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(root.rglob("*.py"))
    return [f for f in files if not _NOT_LIBRARY & set(f.relative_to(root).parts)]


def read_source(path: Path) -> str:
    """A file of Python; the few that aren't UTF-8 declare so, and lose a letter here or there."""
    text = path.read_bytes().decode("utf-8", errors="replace")
    return text if text.endswith("\n") or not text else text + "\n"
