"""What tests of corpora share: files as people have them, and the text that was read of them."""

import warnings
from pathlib import Path

from tiegym.data.corpora import SPLITS, load_corpus


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(tag: str, n: int = 200) -> str:
    return "".join(f"{tag} line {k} of the text.\n" for k in range(n))


def texts(corpus) -> dict[str, str]:
    return {s: corpus.tokenizer.decode(getattr(corpus, s)) for s in SPLITS}


def read(path: Path) -> dict[str, str]:
    """The text of each split, with warnings ignored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return texts(load_corpus(str(path)))
