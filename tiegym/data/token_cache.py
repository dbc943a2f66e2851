"""The cache of tokenized corpora: one file each, verified when read, rebuilt when damaged.

A file is written beside its destination and then renamed: processes that share the folder see a
whole file or none, and the last one to finish wins, with the same content.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

from tiegym.atomic_write import replacing
from tiegym.data.tokenization import Tokens

FORMAT = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenizedText:
    """What is stored: the tokens of each split, and the tokenizer as JSON."""

    splits: dict[str, Tokens]
    tokenizer: str


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tiegym`, or `~/.cache/tiegym`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tiegym"


def cache_path(folder: Path, text_sha256: str, tokenizer: str) -> Path:
    """Where a text's tokens are kept."""
    key = hashlib.sha256(json.dumps([FORMAT, text_sha256, tokenizer]).encode()).hexdigest()
    return folder / f"tokens-{key[:32]}.safetensors"


def read(path: Path) -> TokenizedText | None:
    """What is stored, or None if there is nothing or it is damaged."""
    import safetensors

    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            splits = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        _log.info("%s is damaged and made anew: %s", path, error)
        return None
    if header.get("format") != str(FORMAT) or header.get("sha256") != _checksum(splits):
        _log.info("%s is damaged or of another format, and made anew", path)
        return None
    return TokenizedText(splits, header["tokenizer"])


def write(path: Path, stored: TokenizedText) -> None:
    """Stores tokens; where the folder can't be written it warns, and the run goes on without."""
    from safetensors.numpy import save_file

    header = {
        "format": str(FORMAT),
        "sha256": _checksum(stored.splits),
        "tokenizer": stored.tokenizer,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(dict(stored.splits), temporary, metadata=header)
    except OSError as error:
        warnings.warn(f"tokens can't be cached in {path.parent}: {error}", stacklevel=2)


def _checksum(splits: dict[str, Tokens]) -> str:
    digest = hashlib.sha256()
    for name in sorted(splits):
        digest.update(f"{name}:{splits[name].dtype}:{splits[name].size};".encode())
        digest.update(splits[name].tobytes())
    return digest.hexdigest()
