"""What the library `tokenizers` makes: GPT-2's tokenizer, plain bytes, trained BPE and words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tokenizers

PIECE = 1 << 16
"""Characters: long texts are encoded in pieces, in parallel."""


@contextmanager
def as_value_errors(problem: str) -> Iterator[None]:
    """Around calls of the library, which raises nothing more specific than Exception, and panics.

    Args:
        problem: What can't be done; begins the message.

    Raises:
        ValueError: If the library fails.
    """
    try:
        yield
    except BaseException as error:
        # What a panic of its Rust code becomes is no Exception; nor is Ctrl-C, which isn't ours.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{problem}: {error}") from error


def download_gpt2() -> tokenizers.Tokenizer:
    """GPT-2's, from this machine's store of downloads or from its hub.

    Raises:
        OSError: If it is in neither.
    """
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


def byte_level() -> tokenizers.Tokenizer:
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


def train_bpe(text: str, size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE with at most as many tokens, trained on a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    inner.train_from_iterator(pieces(text), trainer)
    return inner


def train_words(text: str, size: int) -> tokenizers.Tokenizer:
    """The most frequent words of a text, and "<unk>" for all others."""
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
    inner.train_from_iterator(pieces(text), trainer)
    return inner


def pieces(text: str) -> Iterator[str]:
    """Cuts a long text after line ends; a line is never cut, however long."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + PIECE) + 1 or len(text)
        yield text[start:end]
        start = end
