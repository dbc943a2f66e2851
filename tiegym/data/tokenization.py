"""Tokenizers: text to token ids and back. Training one on a corpus is here; caching is not."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import tokenizers

Tokens = npt.NDArray[np.unsignedinteger[Any]]
"""Token ids, one dimension, the smallest unsigned type that holds the vocabulary."""

NAMES = ("bytes", "bpe-N (N >= 257)", "word", "word-N (N >= 2)", "gpt2", "a tokenizer.json file")
LARGEST_VOCABULARY = 1 << 24
"""Token ids; the largest in use have a million."""

_PIECE = 1 << 16  # characters: long texts are encoded in pieces, in parallel


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
        encoded = self.encode_with(self._inner, list(_pieces(text)))
        ids = [np.array(piece.ids, dtype=self.dtype) for piece in encoded]
        return np.concatenate([np.empty(0, dtype=self.dtype), *ids])

    def encode_with(
        self, inner: tokenizers.Tokenizer, texts: list[str]
    ) -> list[tokenizers.Encoding]:
        """What the library makes of texts, without special tokens.

        Raises:
            ValueError: If a text has what the tokenizer can't express.
        """
        try:
            return inner.encode_batch(texts, add_special_tokens=False)
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"tokenizer={self.name!r} can't encode the text: {error}") from error

    def decode(self, tokens: npt.ArrayLike) -> str:
        """The text of token ids; `word` loses spaces and rare words, the others nothing."""
        ids = np.asarray(tokens)
        if self._inner is None:
            return ids.astype(np.uint8).tobytes().decode("utf-8", errors="replace")
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
        return _byte_level() if self._inner is None else self._inner

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
    try:
        made = tokenizers.Tokenizer.from_str(inner)
    except BaseException as error:  # the library raises Exception, and panics with less than that
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ValueError(f"this is no tokenizer that tiegym wrote: {error}") from error
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
        return _wrap(name, _download_gpt2())
    if name.endswith(".json"):
        content = Path(name).read_bytes()
        try:
            inner = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"tokenizer={name!r} is damaged or no tokenizer: {error}") from error
        made = _wrap(name, inner)
        _require_whole(made, train_text[:_PIECE])
        return made
    kind, _, size = name.partition("-")
    train = _train_bpe if kind == "bpe" else _train_words
    return _wrap(name, train(train_text, int(size or 32_768)))


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


def _download_gpt2() -> tokenizers.Tokenizer:
    import huggingface_hub
    import tokenizers

    from tiegym.data import hub

    try:
        path = huggingface_hub.hf_hub_download(
            "openai-community/gpt2", "tokenizer.json", local_files_only=not hub.is_reachable()
        )
        return tokenizers.Tokenizer.from_file(path)
    except Exception as error:  # the library raises nothing more specific
        raise OSError(
            "tokenizer='gpt2' could not be loaded: it is not stored on this machine and its hub "
            "can't be reached, or its cache, HF_HOME, can't be written "
            f"({type(error).__name__}: {error}). Bring GPT-2's tokenizer.json from a machine that "
            "is online and give its path: tokenizer='path/to/tokenizer.json'"
        ) from error


def _byte_level() -> tokenizers.Tokenizer:
    """GPT-2's byte-level tokenizer without a single merge: a byte is its own token id.

    It writes a byte as a character: itself if it can be printed, else one from U+0100 on, in order.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    vocabulary = {chr(byte): byte for byte in printable}
    vocabulary |= {chr(0x100 + k): byte for k, byte in enumerate(others)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return inner


def _train_bpe(text: str, size: int) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(_pieces(text), trainer)
    return inner


def _train_words(text: str, size: int) -> tokenizers.Tokenizer:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    inner = Tokenizer(models.WordLevel(unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"),
            pre_tokenizers.Split("\n", "isolated"),
        ]
    )
    trainer = trainers.WordLevelTrainer(
        vocab_size=size, special_tokens=["<unk>"], show_progress=False
    )
    inner.train_from_iterator(_pieces(text), trainer)
    return inner


def _pieces(text: str) -> Iterator[str]:
    """Cuts a long text after line ends; a line is never cut, however long."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _PIECE) + 1 or len(text)
        yield text[start:end]
        start = end
