"""Corpora: names, tokens, splits. Where the text comes from is in `tiegym.data.sources`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tiegym.data import token_cache, tokenization
from tiegym.data.sources import SPLITS, Texts, read_texts, validate_corpus
from tiegym.data.tokenization import Tokenizer, Tokens


@dataclass(frozen=True)
class Corpus:
    """A tokenized text in three splits that don't overlap.

    Attributes:
        name: As in `TieConfig.corpus`.
        tokenizer: What made the tokens.
        sha256: Hash of the text of all splits.
        train: Tokens of the training split, (N,).
        validation: Those of the validation split.
        test: Those of the test split.
        n_bytes: UTF-8 bytes of each split.
    """

    name: str
    tokenizer: Tokenizer
    sha256: str
    train: Tokens
    validation: Tokens
    test: Tokens
    n_bytes: dict[str, int]

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.tokenizer.vocab_size

    def bytes_per_token(
        self, split: str, limit: int | None = None, block_size: int | None = None
    ) -> float:
        """UTF-8 bytes a token, with which nats a token become bits a byte.

        Args:
            split: "train", "validation" or "test".
            limit: Count exactly the tokens that `TokenData.windows` predicts with this limit. They
                can be counted for tokenizers with `Tokenizer.byte_lengths`; for others this is
                the figure of the whole split.
            block_size: Tokens of its windows; None is one window of all.
        """
        tokens: Tokens = getattr(self, split)
        lengths = None if limit is None else self.tokenizer.byte_lengths()
        if limit is None or lengths is None:
            return self.n_bytes[split] / len(tokens)
        total = n_bytes = 0
        for start, length in spread_windows(len(tokens) - 1, limit, block_size or limit):
            total += length
            n_bytes += int(lengths[tokens[start + 1 : start + 1 + length]].sum())
        return n_bytes / total


def spread_windows(total: int, limit: int | None, block_size: int) -> Iterator[tuple[int, int]]:
    """Windows spread evenly over a text: where each begins, and how many tokens it predicts.

    They don't overlap. All but the last predict block_size tokens. Between them, before the first
    and after the last lie gaps that add up to what isn't read.

    Args:
        total: Tokens that can be predicted: all but the first.
        limit: How many of them to predict; None is all.
        block_size: Tokens a window.

    Examples:
        >>> list(spread_windows(total=10, limit=None, block_size=4))
        [(0, 4), (4, 4), (8, 2)]
        >>> list(spread_windows(total=100, limit=6, block_size=2))
        [(15, 2), (49, 2), (82, 2)]
    """
    read = total if limit is None else min(total, limit)
    n = -(-read // block_size)
    for k in range(n):
        start = k * block_size
        gap = (total - read) * (2 * k + 1) // (2 * n)  # each in the middle of its share
        yield start + gap, min(block_size, read - start)


def load_corpus(name: str, tokenizer: str = "bytes", cache_dir: Path | None = None) -> Corpus:
    """Reads and tokenizes a corpus; tokens are cached under the hash of text and tokenizer.

    Args:
        name: See `TieConfig.corpus`.
        tokenizer: See `TieConfig.tokenizer`; bpe-N and word are trained on the training split.
        cache_dir: Where to cache; None is `tiegym.data.token_cache.cache_folder()`;
            where nothing can be written, a warning says so, and the tokens are made anew each time.

    Raises:
        ValueError: If a name is unknown, a split would be empty, or a file isn't clearly text.
        FileNotFoundError: If it is a path and there is nothing.
        OSError: If a data set is neither stored on this machine nor to be had from the network.
    """
    validate_corpus(name)
    tokenization.validate_tokenizer(tokenizer)
    texts = read_texts(name)
    for split in SPLITS:
        if not texts[split]:
            raise ValueError(
                f"the {split} split of corpus {name!r} would be empty: bring more text, more "
                "files, or files named train.*, validation.* and test.*"
            )
    n_bytes = {split: len(texts[split].encode()) for split in SPLITS}
    sha256 = hashlib.sha256()
    for split in SPLITS:
        sha256.update(f"{split}:{n_bytes[split]};".encode())
        sha256.update(texts[split].encode())

    def corpus(made: Tokenizer, tokens: dict[str, Tokens]) -> Corpus:
        return Corpus(name, made, sha256.hexdigest(), n_bytes=n_bytes, **tokens)

    if tokenizer == "bytes":  # encoding is faster than reading and checking a cache
        made = tokenization.make_tokenizer(tokenizer, "")
        return corpus(made, {split: made.encode(texts[split]) for split in SPLITS})
    identity = tokenizer
    if tokenizer.endswith(".json"):  # the file, not its path, is what decides the tokens
        identity = hashlib.sha256(Path(tokenizer).read_bytes()).hexdigest()
    folder = cache_dir or token_cache.cache_folder()
    if folder is None:
        token_cache.warn("without a home")
        return corpus(*_tokenize(texts, tokenizer))
    path = token_cache.cache_path(folder, sha256.hexdigest(), identity)
    stored = _read_cache(path)
    if stored is not None:
        made, tokens = stored
        return corpus(replace(made, name=tokenizer), tokens)  # a file may have been moved
    made, tokens = _tokenize(texts, tokenizer)
    token_cache.write(path, token_cache.TokenizedText(tokens, made.to_json()))
    return corpus(made, tokens)


def _tokenize(texts: Texts, tokenizer: str) -> tuple[Tokenizer, dict[str, Tokens]]:
    made = tokenization.make_tokenizer(tokenizer, texts["train"])
    return made, {split: made.encode(texts[split]) for split in SPLITS}


def _read_cache(path: Path) -> tuple[Tokenizer, dict[str, Tokens]] | None:
    """What is cached, if it is whole and its tokens are the tokenizer's."""
    stored = token_cache.read(path)
    if stored is None:
        return None
    try:
        tokenizer = tokenization.from_json(stored.tokenizer)
    except ValueError:
        return None
    fits = all(
        stored.splits[split].dtype == tokenizer.dtype
        and stored.splits[split].max(initial=0) < tokenizer.vocab_size
        for split in SPLITS
        if split in stored.splits
    )
    return (tokenizer, stored.splits) if fits and set(stored.splits) == set(SPLITS) else None
