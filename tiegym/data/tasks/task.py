"""What every task offers to whoever trains a transformer on it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tiegym.data.tasks.names import Head
from tiegym.data.tokenization import Tokenizer

Inputs = dict[str, Tensor]
"""Keyword arguments of a transformer's forward pass; the first dimension of each is B."""

Outputs = Mapping[str, Tensor]
"""What the forward pass gave: `logits`, or `start_logits` and `end_logits`."""

IGNORED = -100
"""The target of a token that isn't asked for."""


class TaskData(Protocol):
    """The rows of a task on a device."""

    def sample(self, split: str, n: int, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """Random rows and their targets.

        Args:
            split: "train", "validation" or "test".
            n: Rows.
            generator: Of the data's device.
        """

    def batches(
        self, split: str, size: int, limit: int | None = None
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """Each row of a split once, in order: always the same ones.

        Args:
            split: Which one.
            size: Rows in a batch; the last may have fewer.
            limit: No more rows than these, or tokens of language modelling, or questions, spread
                evenly over the split; None is all.
        """


class Metrics(Protocol):
    """The task's metrics over the batches of one evaluation."""

    def add(self, outputs: Outputs, targets: Tensor) -> None:
        """Adds what a transformer said of a batch."""

    def figures(self) -> dict[str, float]:
        """Each metric by its name; all are better when larger, and at most 1.

        Raises:
            ValueError: If nothing was added.
        """


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """A task and its data.

    Attributes:
        name: As `load_task` takes it.
        corpus: The name of its data.
        head: Which output layer a transformer needs for it.
        metric_names: The names of its metrics.
        uniform_loss: The loss in nats of a guess without knowledge: ln of the number of choices;
            for scores that of their training mean.
        sha256: Hash of its data, of all splits, before any tokenizer.
        n_rows: Rows of each split: what `TaskData.batches` gives; for language modelling tokens.
        tokenizer: What made tokens of its texts; None for images.
        vocab_size: Ids of tokens, with those of the special ones; 0 for images.
        pad_id: The id that fills a text up to `block_size`; None if none is needed.
        end_id: The id that ends each text; None if there is none.
        block_size: Tokens T of each text; 0 for images.
        label_names: The classes, in the order of their numbers.
        n_labels: Outputs of the head: classes, or 1 for a score; 0 if the head has none.
        image_size: Height and width in pixels; None for texts.
        num_channels: 1 for grey images, 3 for coloured ones; 0 for texts.
    """

    name: str
    corpus: str
    head: Head
    metric_names: tuple[str, ...]
    uniform_loss: float
    sha256: str
    n_rows: dict[str, int]
    tokenizer: Tokenizer | None = field(default=None, repr=False)
    vocab_size: int = 0
    pad_id: int | None = None
    end_id: int | None = None
    block_size: int = 0
    label_names: tuple[str, ...] = ()
    n_labels: int = 0
    image_size: tuple[int, int] | None = None
    num_channels: int = 0

    @abstractmethod
    def data(self, device: torch.device) -> TaskData:
        """The rows on a device."""

    @abstractmethod
    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """The mean loss of a batch in nats, a float32 scalar."""

    @abstractmethod
    def count(self, targets: Tensor) -> int:
        """How many things the loss is the mean of: the weight of a batch among others."""

    @abstractmethod
    def metrics(self) -> Metrics:
        """Metrics of nothing yet."""

    def bytes_per_token(self, split: str, limit: int | None = None) -> float | None:
        """UTF-8 bytes a token that is predicted, of language modelling; None for other tasks."""
        return None


class NoMetrics:
    """Metrics of a task whose only figure is its loss."""

    def add(self, outputs: Outputs, targets: Tensor) -> None:
        """Adds nothing."""

    def figures(self) -> dict[str, float]:
        """No figures."""
        return {}


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The mean of -ln p(target) in float32, over all targets but `IGNORED`.

    Args:
        logits: (..., V).
        targets: int64 (...).
    """
    flat = logits.reshape(-1, logits.shape[-1]).float()
    return functional.cross_entropy(flat, targets.reshape(-1), ignore_index=IGNORED)


def spread(total: int, limit: int | None) -> Tensor:
    """Numbers from 0 to total - 1 at even distances: all, or `limit` of them.

    Examples:
        >>> spread(10, 3).tolist()
        [1, 5, 8]
    """
    n = total if limit is None else min(total, limit)
    return (torch.arange(n) * 2 + 1) * total // (2 * max(n, 1))


def digest(parts: Iterable[str | bytes]) -> str:
    """SHA-256 of a sequence of texts; where one ends and the next begins counts."""
    made = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        made.update(f"{len(content)}:".encode())
        made.update(content)
    return made.hexdigest()
