"""Language modelling: the next token, or masked ones, of a corpus."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tiegym.data.corpora import Corpus, spread_windows
from tiegym.data.splits import SPLITS
from tiegym.data.tasks.predictions import Predictions
from tiegym.data.tasks.task import (
    IGNORED,
    Inputs,
    Metrics,
    NoMetrics,
    Outputs,
    Task,
    cross_entropy,
)
from tiegym.data.tasks.text_encoding import TextEncoder, text_encoder
from tiegym.data.token_data import TokenData

MASKED = 0.15
"""The share of tokens that is asked for."""

HIDDEN = 0.8
"""Of these, the share that the mask token stands for."""

REPLACED = 0.1
"""The share that a random token stands for; the rest stay as they are."""


@dataclass(frozen=True, kw_only=True)
class _CorpusTask(Task):
    """A task on the tokens of a corpus: (B, T) targets, of which some may be `IGNORED`."""

    text: Corpus = field(repr=False)

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Cross-entropy over what is asked."""
        return cross_entropy(outputs["logits"], targets)

    def count(self, targets: Tensor) -> int:
        """Tokens that are asked."""
        return int((targets != IGNORED).sum())


@dataclass(frozen=True, kw_only=True)
class LanguageModeling(_CorpusTask):
    """The next token; the windows are those of `TokenData`."""

    def data(self, device: torch.device) -> LanguageData:
        """The tokens on a device."""
        return LanguageData(TokenData(self.text, device), self.block_size)

    def metrics(self) -> Metrics:
        """None: perplexity and bits per byte follow from the loss."""
        return NoMetrics()

    def bytes_per_token(self, split: str, limit: int | None = None) -> float:
        """UTF-8 bytes of a token that is predicted."""
        return self.text.bytes_per_token(split, limit, self.block_size)


class LanguageData:
    """Windows of a corpus; see `TaskData`."""

    def __init__(self, tokens: TokenData, block_size: int) -> None:
        """Keeps the tokens; windows have block_size."""
        self._tokens = tokens
        self._block_size = block_size

    def sample(self, split: str, n: int, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """Random windows and their next tokens."""
        inputs, targets = self._tokens.sample(split, n, self._block_size, generator)
        return {"input_ids": inputs}, targets

    def batches(
        self, split: str, size: int, limit: int | None = None
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """`TokenData.windows`; the last one is filled up at its end, where nothing is asked."""
        for inputs, targets in self._tokens.windows(split, self._block_size, size, limit):
            missing = (0, self._block_size - inputs.shape[1])
            padded = torch.nn.functional.pad(targets, missing, value=IGNORED)
            yield {"input_ids": torch.nn.functional.pad(inputs, missing)}, padded


@dataclass(frozen=True, kw_only=True)
class MaskedLanguageModeling(_CorpusTask):
    """Masked tokens, by the rule of BERT (Devlin et al. 2019, section 3.1 and appendix A.1).

    A window holds `block_size` tokens less the special ones at its ends, as in BERT. Of 15 % of
    its tokens, at least one, the transformer must say what they were: 80 % of these are replaced by
    the mask token, 10 % by a random token, and 10 % stay.
    """

    encoder: TextEncoder = field(repr=False)

    def data(self, device: torch.device) -> MaskedData:
        """The tokens on a device."""
        return MaskedData(self.text, self.encoder, self.block_size, device)

    def metrics(self) -> Metrics:
        """The share of masked tokens that are guessed."""
        return Predictions(self.metric_names)


class MaskedData:
    """Windows with masks; see `TaskData`.

    Masks of `sample` are drawn from its generator; those of `batches` belong to the positions in
    the split, whatever the run, the batch size and the limit.
    """

    def __init__(
        self, corpus: Corpus, encoder: TextEncoder, block_size: int, device: torch.device
    ) -> None:
        """Copies the tokens to the device."""
        self._encoder = encoder
        self._device = device
        self._block_size = block_size
        self._room = block_size - len(encoder.single)
        self._tokens = {
            split: torch.from_numpy(getattr(corpus, split).astype(np.int32)).to(device)
            for split in SPLITS
        }

    def sample(self, split: str, n: int, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """Random windows with random masks.

        Raises:
            ValueError: If the split has fewer tokens than a window.
        """
        tokens, device = self._tokens[split], self._device
        starts = len(tokens) - self._room + 1
        if starts < 1:
            raise ValueError(
                f"the {split} split has {len(tokens)} tokens, but a window needs {self._room}: "
                "lower block_size or bring a larger corpus"
            )
        first = torch.randint(starts, (n, 1), generator=generator, device=device)
        shape, kind = (3, n, self._room), torch.float32  # whatever the caller's default is
        drawn = torch.rand(shape, generator=generator, device=device, dtype=kind)
        window = tokens[first + torch.arange(self._room, device=device)].long()
        return self._masked(window, drawn)

    def batches(
        self, split: str, size: int, limit: int | None = None
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """Windows over a split that overlap nowhere, at most `limit` tokens; the last is filled."""
        tokens, device = self._tokens[split], self._device
        drawn = torch.from_numpy(_draws_of_positions(len(tokens))).to(device)
        windows = list(spread_windows(len(tokens), limit, self._room))
        offsets = torch.arange(self._room, device=device)
        for k in range(0, len(windows), size):
            first, length = torch.tensor(windows[k : k + size], device=device).T[..., None]
            is_text = offsets < length
            # Past the end of a short window stands whatever, which _masked hides.
            position = (first + offsets).clamp(max=len(tokens) - 1)
            yield self._masked(tokens[position].long(), drawn[:, position], is_text)

    def _masked(
        self, window: Tensor, drawn: Tensor, is_text: Tensor | None = None
    ) -> tuple[Inputs, Tensor]:
        encoder = self._encoder
        if is_text is None:
            is_text = torch.ones_like(window, dtype=torch.bool)
        vocabulary = encoder.tokenizer.vocab_size
        shown, targets = mask_tokens(window, drawn, is_text, encoder.mask, vocabulary)
        n, room = window.shape
        frame = encoder.single
        ids = window.new_full((n, self._block_size), encoder.pad)
        asked = window.new_full((n, self._block_size), IGNORED)
        body = slice(len(frame.before), len(frame.before) + room)
        ids[:, : len(frame.before)] = ids.new_tensor(frame.before)
        ids[:, body] = torch.where(is_text, shown, encoder.pad)
        asked[:, body] = targets
        length = is_text.sum(1, keepdim=True) + len(frame.before)
        behind = length + torch.arange(len(frame.behind), device=ids.device)
        ids.scatter_(1, behind, ids.new_tensor(frame.behind).expand(n, -1))
        position = torch.arange(self._block_size, device=ids.device)
        attention = (position < length + len(frame.behind)).long()
        return {"input_ids": ids, "attention_mask": attention}, asked


def mask_tokens(
    tokens: Tensor, drawn: Tensor, is_text: Tensor, mask: int, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """What is shown of windows, and what is asked: BERT's rule.

    Args:
        tokens: int64 (B, T).
        drawn: Uniform on [0, 1), (3, B, T): which tokens, what becomes of each, which random token.
        is_text: bool (B, T): what may be masked; the first tokens of each row.
        mask: Id of the mask token.
        vocab_size: Random tokens have ids below it.

    Returns:
        The tokens shown, and int64 (B, T) targets, `IGNORED` where nothing is asked. Each row
        has 15 % of its text masked, rounded, and at least a token.
    """
    which, what, random = drawn
    count = (MASKED * is_text.sum(1, keepdim=True)).round().clamp(min=1)
    rank = which.masked_fill(~is_text, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
    is_asked = (rank < count) & is_text
    replaced = torch.where(what < HIDDEN + REPLACED, (random * vocab_size).long(), tokens)
    replaced = torch.where(what < HIDDEN, mask, replaced)
    targets = torch.where(is_asked, tokens, IGNORED)
    return torch.where(is_asked, replaced, tokens), targets


def _draws_of_positions(n: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Uniform (3, n), the same always: a position has the same three in a longer text."""
    drawn = np.random.default_rng(0).random((n, 3), dtype=np.float32)
    return np.ascontiguousarray(drawn.T)


def language_modeling(corpus: Corpus, block_size: int) -> LanguageModeling:
    """The task of predicting the next token of a corpus."""
    return LanguageModeling(
        name="language-modeling",
        corpus=corpus.name,
        head="causal-lm",
        metric_names=(),
        uniform_loss=math.log(corpus.vocab_size),
        sha256=corpus.sha256,
        n_rows={split: len(getattr(corpus, split)) for split in SPLITS},
        tokenizer=corpus.tokenizer,
        vocab_size=corpus.vocab_size,
        block_size=block_size,
        text=corpus,
    )


def masked_language_modeling(corpus: Corpus, block_size: int) -> MaskedLanguageModeling:
    """The task of saying which tokens of a corpus are masked.

    Raises:
        ValueError: If a window has no room beside its special tokens.
    """
    sample = corpus.tokenizer.decode(corpus.train[:64])
    encoder = text_encoder(corpus.tokenizer, sample)
    if block_size <= len(encoder.single):
        raise ValueError(
            f"block_size={block_size} has no room for text beside {len(encoder.single)} special "
            "tokens: raise it"
        )
    return MaskedLanguageModeling(
        name="masked-language-modeling",
        corpus=corpus.name,
        head="masked-lm",
        metric_names=("accuracy",),
        uniform_loss=math.log(encoder.vocab_size),
        sha256=corpus.sha256,
        n_rows={split: len(getattr(corpus, split)) for split in SPLITS},
        tokenizer=corpus.tokenizer,
        vocab_size=encoder.vocab_size,
        pad_id=encoder.pad,
        end_id=encoder.end,
        block_size=block_size,
        text=corpus,
        encoder=encoder,
    )
