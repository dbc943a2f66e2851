"""Texts as rows of token ids of one length: special tokens, truncation, padding.

A tokenizer of this package has no special tokens: they get the ids above its vocabulary, in the
order of `SPECIAL`. A tokenizer.json may bring its own, and the way in which it sets them around
texts; only what it lacks is added. A text that spells one, such as "[MASK]", stays text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tiegym.data.library_tokenizers import as_value_errors
from tiegym.data.tasks.row_data import Array
from tiegym.data.tasks.task import Inputs
from tiegym.data.tokenization import Tokenizer

if TYPE_CHECKING:
    import tokenizers

SPECIAL = {
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "cls": ("[CLS]", "<s>", "<cls>"),
    "sep": ("[SEP]", "</s>", "<sep>"),
    "mask": ("[MASK]", "<mask>"),
}
"""What special tokens are called in a tokenizer.json."""

_AT_A_TIME = 4096  # texts that the library encodes in parallel


@dataclass(frozen=True)
class Frame:
    """The special tokens around one text or two: before, between and behind them."""

    before: tuple[int, ...]
    between: tuple[int, ...]
    behind: tuple[int, ...]

    def __len__(self) -> int:
        """Special tokens in all."""
        return len(self.before) + len(self.between) + len(self.behind)


@dataclass(frozen=True)
class TextEncoder:
    """Makes rows of texts.

    Attributes:
        tokenizer: What makes tokens.
        vocab_size: Its ids and those of the special tokens.
        pad: The id that fills up.
        mask: The id that stands for a masked token.
        single: Around one text.
        pair: Around two.
        second_type: The token type of the second text: 1, or 0 where a tokenizer.json says so.
    """

    tokenizer: Tokenizer
    vocab_size: int
    pad: int
    mask: int
    single: Frame
    pair: Frame
    second_type: int
    _inner: tokenizers.Tokenizer

    @property
    def end(self) -> int | None:
        """The id that ends a row's text, if one does."""
        return self.single.behind[-1] if self.single.behind else None

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without special tokens."""
        return [encoding.ids for encoding in self._encodings(texts)]

    def tokens_and_offsets(
        self, texts: Sequence[str]
    ) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """The same, with the first character of each token, and the one behind its last."""
        return [(encoding.ids, encoding.offsets) for encoding in self._encodings(texts)]

    def _encodings(self, texts: Sequence[str]) -> Iterator[tokenizers.Encoding]:
        for start in range(0, len(texts), _AT_A_TIME):
            batch = list(texts[start : start + _AT_A_TIME])
            yield from self.tokenizer.encode_with(self._inner, batch)

    def rows(
        self, firsts: Sequence[str], seconds: Sequence[str] | None, block_size: int
    ) -> dict[str, Array]:
        """Rows of one text or two, cut at their ends to fit.

        Two texts that are too long together: the longer one is cut until both are equally long,
        then both.

        Returns:
            Columns for `inputs`.

        Raises:
            ValueError: If block_size has no room for a token of each text.
        """
        frame = self.single if seconds is None else self.pair
        room = block_size - len(frame)
        if room < (1 if seconds is None else 2):
            raise ValueError(
                f"block_size={block_size} has no room for text beside {len(frame)} special "
                "tokens: raise it"
            )
        first_ids = self.tokens(firsts)
        second_ids = [None] * len(firsts) if seconds is None else self.tokens(seconds)
        pairs = []
        for first, second in zip(first_ids, second_ids, strict=True):
            of_first, of_second = cut_longest(len(first), len(second or ()), room)
            pairs.append((first[:of_first], None if second is None else second[:of_second]))
        return self.join(pairs, block_size)

    def join(
        self, pairs: Sequence[tuple[list[int], list[int] | None]], block_size: int
    ) -> dict[str, Array]:
        """Sets tokens into their frames and fills up; each must fit.

        Returns:
            ids int32 (N, T), length int32 (N,), and of pairs second int32 (N,): where the second
            text begins.
        """
        ids = np.full((len(pairs), block_size), self.pad, dtype=np.int32)
        length = np.empty(len(pairs), dtype=np.int32)
        start = np.empty(len(pairs), dtype=np.int32)
        for row, (first, second) in enumerate(pairs):
            frame = self.single if second is None else self.pair
            joined = [*frame.before, *first, *frame.between]
            start[row] = len(joined)
            joined += [*(second or ()), *frame.behind]
            length[row] = len(joined)
            ids[row, : len(joined)] = joined
        columns: dict[str, Array] = {"ids": ids, "length": length}
        if pairs and pairs[0][1] is not None:
            columns["second"] = start
        return columns

    def inputs(self, columns: dict[str, Tensor]) -> Inputs:
        """input_ids and attention_mask, int64 (B, T); of pairs token_type_ids, if they differ."""
        ids = columns["ids"].long()
        position = torch.arange(ids.shape[1], device=ids.device)
        is_text = position < columns["length"][:, None]
        inputs = {"input_ids": ids, "attention_mask": is_text.long()}
        if "second" in columns and self.second_type:
            is_second = is_text & (position >= columns["second"][:, None])
            inputs["token_type_ids"] = is_second.long()
        return inputs


def text_encoder(tokenizer: Tokenizer, sample: str) -> TextEncoder:
    """The encoder of a tokenizer.

    Args:
        tokenizer: Of this package, or a tokenizer.json with special tokens of its own.
        sample: A text of the training split; it tells how a tokenizer.json frames texts.

    Raises:
        ValueError: If no token stands for anything in the sample.
    """
    import tokenizers

    inner = tokenizers.Tokenizer.from_str(tokenizer.to_library().to_str())
    inner.encode_special_tokens = True
    own = {
        token.content: number
        for number, token in inner.get_added_tokens_decoder().items()
        if token.special
    }
    ids: dict[str, int] = {}
    vocab_size = tokenizer.vocab_size
    single, pair, second_type = _frames(inner, sample)
    framed = bool(len(single))
    for role, names in SPECIAL.items():
        found = next((own[name] for name in names if name in own), None)
        if found is None and not (framed and role in ("cls", "sep")):
            found, vocab_size = vocab_size, vocab_size + 1
        if found is not None:
            ids[role] = found
    if not framed:
        cls, sep, second_type = (ids["cls"],), (ids["sep"],), 1
        single, pair = Frame(cls, (), sep), Frame(cls, sep, sep)
    return TextEncoder(
        tokenizer, vocab_size, ids["pad"], ids["mask"], single, pair, second_type, inner
    )


def _frames(inner: tokenizers.Tokenizer, sample: str) -> tuple[Frame, Frame, int]:
    """What a tokenizer sets around one text, around two, and the second one's token type."""
    with as_value_errors("the tokenizer can't frame texts"):
        alone = inner.encode(sample)
        both = inner.encode(sample, sample)
    if 0 not in alone.sequence_ids:
        raise ValueError(f"the tokenizer has no token for anything in {sample[:40]!r}")
    second = both.sequence_ids.index(1)
    return _frame(alone), _frame(both), both.type_ids[second]


def _frame(encoding: tokenizers.Encoding) -> Frame:
    """The special tokens of an encoding, whose texts have at least a token each."""
    of = encoding.sequence_ids
    first, last = of.index(0), len(of) - 1 - of[::-1].index(max(k for k in of if k is not None))
    between = [n for n in range(first, last + 1) if of[n] is None]
    ids = encoding.ids
    return Frame(tuple(ids[:first]), tuple(ids[n] for n in between), tuple(ids[last + 1 :]))


def cut_longest(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens remain of two texts that must fit together.

    Examples:
        >>> cut_longest(10, 3, room=8), cut_longest(10, 9, room=8), cut_longest(2, 3, room=8)
        ((5, 3), (4, 4), (2, 3))
    """
    kept = min(first, max(room - second, room - room // 2))
    return kept, min(second, room - kept)
