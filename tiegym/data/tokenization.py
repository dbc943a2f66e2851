"""Tokenizers: text to token ids and back."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tiegym.data.library_tokenizers import (
    PIECE,
    as_value_errors,
    byte_level,
    download_gpt2,
    pieces,
    train_bpe,
    train_words,
)

if TYPE_CHECKING:
    import tokenizers

Tokens = npt.NDArray[np.unsignedinteger[Any]]
"""Token ids, one dimension, the smallest unsigned type that holds the vocabulary."""

NAMES = ("bytes", "bpe-N (N >= 257)", "word", "word-N (N >= 2)", "gpt2", "a tokenizer.json file")
LARGEST_VOCABULARY = 1 << 24
"""Token ids; the largest in use have a million."""


def validate_tokenizer(name: str) -> None:
    """Checks a tokenizer's name without loading anything.

    Raises:
        ValueError: If it is unknown.
        FileNotFoundError: If it is the path of a file that isn't there.
    """
    if name in ("bytes", "word", "gpt2"):
        return
    if count := re.fullmatch(r"(bpe|word)-([0-9]+)", name):
        least = 257 if count[1] == "bpe" else 2
        if len(count[2]) > 9 or not least <= int(count[2]) <= LARGEST_VOCABULARY:
            raise ValueError(
                f"tokenizer={name!r} needs a vocabulary of at least {least}, and at most "
                f"{LARGEST_VOCABULARY:,}"
            )
        return
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"tokenizer={name!r}: there is no such file")
        return
    raise ValueError(f"tokenizer={name!r} is unknown: choose one of {', '.join(NAMES)}")


@dataclass(frozen=True)
class Tokenizer:
    """Encodes and decodes text.

    Attributes:
        name: As in `TieConfig.tokenizer`.
        vocab_size: Number of token ids.
    """

    name: str
    vocab_size: int
    _inner: tokenizers.Tokenizer | None = None

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """The smallest unsigned type that holds every id."""
        return np.min_scalar_type(self.vocab_size - 1)

    def encode(self, text: str) -> Tokens:
        """The token ids of a text, (N,).

        Raises:
            ValueError: If the text has what the tokenizer can't express.
        """
        if self._inner is None:
            return np.frombuffer(text.encode(), dtype=np.uint8)
        encoded = self.encode_with(self._inner, list(pieces(text)))
        ids = [np.array(piece.ids, dtype=self.dtype) for piece in encoded]
        return np.concatenate([np.empty(0, dtype=self.dtype), *ids])

    def encode_with(
        self, inner: tokenizers.Tokenizer, texts: list[str]
    ) -> list[tokenizers.Encoding]:
        """What the library makes of texts, without special tokens.

        Raises:
            ValueError: If a text has what the tokenizer can't express.
        """
        with as_value_errors(f"tokenizer={self.name!r} can't encode the text"):
            return inner.encode_batch(texts, add_special_tokens=False)

    def decode(self, tokens: npt.ArrayLike) -> str:
        """The text of token ids; `word` loses spaces and rare words, the others nothing."""
        ids = np.asarray(tokens)
        if self._inner is None:
            return ids.astype(np.uint8).tobytes().decode("utf-8", errors="replace")
        with as_value_errors(f"tokenizer={self.name!r} can't decode the tokens"):
            text: str = self._inner.decode(ids.tolist(), skip_special_tokens=False)
        return text.replace(" \n ", "\n").replace("\n ", "\n") if self._is_word else text

    def byte_lengths(self) -> npt.NDArray[np.int64] | None:
        """UTF-8 bytes of each token, (V,); None if its tokens don't stand for bytes.

        They do for "bytes" and for byte-level BPE, such as bpe-N and gpt2.
        """
        if self._inner is None:
            return np.ones(self.vocab_size, dtype=np.int64)
        from tokenizers import decoders

        if not isinstance(self._inner.decoder, decoders.ByteLevel):
            return None
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, number in self._inner.get_vocab().items():
            lengths[number] = len(token)  # written with a character for each byte
        return lengths

    def lost(self, text: str) -> str:
        """The characters of a text, but for white space, that no token stands for: mostly none.

        Without a token for what is unknown, a tokenizer drops it, and the transformer is never
        asked to predict it.
        """
        if self._inner is None:
            return ""
        offsets = self.encode_with(self._inner, [text])[0].offsets
        starts, ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
        change = np.zeros(len(text) + 1, dtype=np.int64)
        np.add.at(change, starts, 1)
        np.add.at(change, ends, -1)
        kept = np.cumsum(change)[:-1] > 0
        return "".join(c for c, k in zip(text, kept, strict=True) if not k and not c.isspace())

    @property
    def sha256(self) -> str:
        """Hash of all that decides which tokens a text becomes; the name isn't part of it."""
        inner = "bytes" if self._inner is None else self._inner.to_str()
        return hashlib.sha256(inner.encode()).hexdigest()

    @property
    def _is_word(self) -> bool:
        return re.fullmatch(r"word(-\d+)?", self.name) is not None

    def to_library(self) -> tokenizers.Tokenizer:
        """The same tokenizer as an object of the library `tokenizers`, "bytes" too."""
        return byte_level() if self._inner is None else self._inner

    def to_json(self) -> str:
        """All of it as JSON; `from_json` reads it."""
        inner = None if self._inner is None else self._inner.to_str()
        return json.dumps({"name": self.name, "tokenizer": inner})


def from_json(text: str) -> Tokenizer:
    """The tokenizer that `Tokenizer.to_json` wrote.

    Raises:
        ValueError: If the text is something else.
    """
    import tokenizers

    try:
        values = json.loads(text)
        name, inner = values["name"], values["tokenizer"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("this is no tokenizer that tiegym wrote") from error
    if not isinstance(name, str) or not isinstance(inner, str | None):
        raise ValueError("this is no tokenizer that tiegym wrote: its entries are no text")
    if inner is None:
        return Tokenizer(name, 256)
    with as_value_errors("this is no tokenizer that tiegym wrote"):
        made = tokenizers.Tokenizer.from_str(inner)
    return _wrap(name, made)


def make_tokenizer(name: str, train_text: str) -> Tokenizer:
    """The tokenizer of that name; bpe-N and word are trained.

    Args:
        name: See `validate_tokenizer`.
        train_text: The training split, and nothing of the others.

    Raises:
        OSError: If gpt2 is neither stored on this machine nor to be had from the network.
        ValueError: If the name is unknown or the file is no tokenizer.
    """
    validate_tokenizer(name)
    if name == "bytes":
        return Tokenizer(name, 256)
    import tokenizers

    if name == "gpt2":
        return _wrap(name, download_gpt2())
    if name.endswith(".json"):
        content = Path(name).read_bytes()
        with as_value_errors(f"tokenizer={name!r} is damaged or no tokenizer"):
            inner = tokenizers.Tokenizer.from_buffer(content)
        made = _wrap(name, inner)
        _require_whole(made, train_text[:PIECE])
        return made
    kind, _, size = name.partition("-")
    train = train_bpe if kind == "bpe" else train_words
    with as_value_errors(f"tokenizer={name!r} can't be trained on the text"):
        inner = train(train_text, int(size or 32_768))
    return _wrap(name, inner)


def _wrap(name: str, inner: tokenizers.Tokenizer) -> Tokenizer:
    """Switches off what drops, adds or draws tokens: settings of an earlier use, kept in the file.

    Raises:
        ValueError: If it has no tokens, or ids far beyond their number.
    """
    from tokenizers import models

    inner.no_truncation()
    inner.no_padding()
    if isinstance(inner.model, models.BPE):
        inner.model.dropout = None
    ids = inner.get_vocab().values()
    # Ids may have gaps: a word-level vocabulary does where the text itself holds "<unk>".
    size = max(ids, default=-1) + 1
    if not ids or size > min(2 * len(ids) + 1000, LARGEST_VOCABULARY):
        raise ValueError(f"tokenizer={name!r} has {len(ids)} tokens, and ids up to {size - 1}")
    return Tokenizer(name, size, inner)


def _require_whole(tokenizer: Tokenizer, sample: str) -> None:
    lost = tokenizer.lost(sample)
    if len(lost) > 0.01 * len(sample):
        raise ValueError(
            f"tokenizer={tokenizer.name!r} drops {len(lost)} of the text's first {len(sample)} "
            f"characters, such as {lost[0]!r}: it needs a token for what it doesn't know, or bytes"
        )
