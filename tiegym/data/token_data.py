"""A corpus' tokens on a device: random training batches and windows of the other splits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tiegym.data.corpora import Corpus
from tiegym.data.sources import SPLITS


class TokenData:
    """All splits as one int32 tensor on the device; batches are indexed there.

    Args:
        corpus: Its token arrays are copied.
        device: Where the tensor lives.
    """

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        """Copies the tokens to the device."""
        splits = {name: getattr(corpus, name) for name in SPLITS}
        self.length = {name: len(tokens) for name, tokens in splits.items()}
        ends = np.cumsum(list(self.length.values())).tolist()
        self._start = dict(zip(SPLITS, [0, *ends[:-1]], strict=True))
        joined = np.concatenate(list(splits.values())).astype(np.int32)
        self.tokens = torch.from_numpy(joined).to(device)

    def sample(
        self, split: str, n: int, block_size: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Random windows: inputs and their next tokens, int64 (n, block_size) each.

        Raises:
            ValueError: If the split has fewer than block_size + 1 tokens.
        """
        room = self.length[split] - block_size
        if room < 1:
            raise ValueError(
                f"the {split} split has {self.length[split]} tokens, but a window needs "
                f"{block_size + 1}: lower block_size or bring a larger corpus"
            )
        device = self.tokens.device
        starts = torch.randint(room, (n, 1), generator=generator, device=device)
        return self._gather(self._start[split] + starts, block_size)

    def windows(
        self, split: str, block_size: int, batch_size: int, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Consecutive windows that predict each token of a split but its first exactly once.

        Args:
            split: Which one.
            block_size: Tokens a window; what remains at the end is one shorter window.
            batch_size: Windows at a time.
            limit: Read only the first `limit` tokens' predictions.

        Yields:
            Inputs and targets, int64 (up to batch_size, up to block_size).
        """
        total = self.length[split] - 1
        total = total if limit is None else min(total, limit)
        device = self.tokens.device
        full = torch.arange(total // block_size, device=device)[:, None] * block_size
        for starts in torch.split(full, batch_size):
            if len(starts):
                yield self._gather(self._start[split] + starts, block_size)
        rest = total % block_size
        if rest:
            start = torch.tensor([[self._start[split] + total - rest]], device=device)
            yield self._gather(start, rest)

    def _gather(self, starts: Tensor, length: int) -> tuple[Tensor, Tensor]:
        offsets = torch.arange(length + 1, device=self.tokens.device)
        window = self.tokens[starts + offsets].long()
        return window[:, :-1], window[:, 1:]
