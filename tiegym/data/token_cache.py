"""The cache of tokenized corpora: one file each, verified when read, rebuilt when damaged.

A file is written beside its destination and then renamed: processes that share the folder see a
whole file or none, and the last one to finish wins, with the same content.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tiegym.atomic_write import write_bytes
from tiegym.data.tokenization import Tokens

FORMAT = 2  # 1 had no checksum of the tokenizer
_DAY = 86_400  # seconds
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenizedText:
    """What is stored: the tokens of each split, and the tokenizer as JSON."""

    splits: dict[str, Tokens]
    tokenizer: str


def cache_folder() -> Path | None:
    """`$XDG_CACHE_HOME/tiegym`, or `~/.cache/tiegym`; None if there is no home either."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "tiegym"
    try:
        return Path.home() / ".cache" / "tiegym"
    except RuntimeError:
        return None


def cache_path(folder: Path, text_sha256: str, tokenizer: str) -> Path:
    """Where a text's tokens are kept."""
    key = hashlib.sha256(json.dumps([FORMAT, text_sha256, tokenizer]).encode()).hexdigest()
    return folder / f"tokens-{key[:32]}.safetensors"


def read(path: Path) -> TokenizedText | None:
    """What is stored, or None if there is nothing or it is damaged."""
    import safetensors

    try:
        if not path.is_file():
            return None
        with safetensors.safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            splits = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, AttributeError, TypeError, ValueError) as error:
        _log.info("%s is damaged and made anew: %s", path, error)
        return None
    stored = TokenizedText(splits, header.get("tokenizer", ""))
    if header.get("format") != str(FORMAT) or header.get("sha256") != _checksum(stored):
        _log.info("%s is damaged or of another format, and made anew", path)
        return None
    return stored


def write(path: Path, stored: TokenizedText) -> None:
    """Stores tokens; where the folder can't be written it warns, and the run goes on without."""
    from safetensors.numpy import save

    header = {
        "format": str(FORMAT),
        "sha256": _checksum(stored),
        "tokenizer": stored.tokenizer,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        # Not save_file: on a full disk it raises what is no OSError.
        write_bytes(path, save(dict(stored.splits), metadata=header))
    except OSError as error:
        warn(f"in {path.parent}: {error}")


def _remove_leftovers(folder: Path) -> None:
    """Removes what killed processes were writing: files that nobody has touched for a day."""
    for file in folder.glob(".tokens-*.tmp"):
        with suppress(FileNotFoundError):  # another process may be doing the same
            if time.time() - file.lstat().st_mtime > _DAY:
                file.unlink()


def warn(reason: str) -> None:
    """Says once that tokens are made anew at every start, and what to set."""
    warnings.warn(
        f"tokens can't be cached {reason}. The run goes on; to keep tokens, set XDG_CACHE_HOME to "
        "a folder that can be written",
        stacklevel=3,
    )


def _checksum(stored: TokenizedText) -> str:
    digest = hashlib.sha256()
    for name in sorted(stored.splits):
        tokens = stored.splits[name]
        digest.update(f"{name}:{tokens.dtype}:{tokens.size};".encode())
        digest.update(tokens.tobytes())
    digest.update(stored.tokenizer.encode())
    return digest.hexdigest()
