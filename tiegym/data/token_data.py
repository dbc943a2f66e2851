"""A corpus' tokens on a device: random training batches and windows of the other splits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tiegym.data.corpora import Corpus, spread_windows
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
        """Windows over a split that predict no token twice: all but the first, or some of them.

        Args:
            split: Which one.
            block_size: Tokens a window; what remains at the end is one shorter window.
            batch_size: Windows at a time.
            limit: Predict no more than `limit` tokens, in windows that are spread evenly over the
                split: a text's first tokens are one file's, or one article's.

        Yields:
            Inputs and targets, int64 (up to batch_size, up to block_size).
        """
        windows = list(spread_windows(self.length[split] - 1, limit, block_size))
        full = [start for start, length in windows if length == block_size]
        device, first = self.tokens.device, self._start[split]
        starts = first + torch.tensor(full, dtype=torch.int64, device=device)[:, None]
        for batch in torch.split(starts, batch_size):
            if len(batch):
                yield self._gather(batch, block_size)
        start, length = windows[-1]
        if length < block_size:
            yield self._gather(torch.tensor([[first + start]], device=device), length)

    def _gather(self, starts: Tensor, length: int) -> tuple[Tensor, Tensor]:
        offsets = torch.arange(length + 1, device=self.tokens.device)
        window = self.tokens[starts + offsets].long()
        return window[:, :-1], window[:, 1:]
