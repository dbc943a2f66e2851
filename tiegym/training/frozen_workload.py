"""Training a small part beside a transformer that is trained already, and stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tiegym.ties import Ties
from tiegym.training.gpt_workload import GPTWorkload
from tiegym.training.initial_weights import take_over
from tiegym.transformer.frozen import FrozenTransformer
from tiegym.transformer.tied_model import TiedModel


class FrozenWorkload(GPTWorkload):
    """The part of a `FrozenTransformer` on the tokens of a corpus.

    Args:
        like: A workload that has the frozen weights as those that it begins with, and the data;
            both are shared.
        kind: Makes the transformer, as `FrozenTransformer` does; `functools.partial` sets what
            else there is to say.
        start: Gets the transformer, inputs and targets before the first iteration; None is nothing.
        n_samples: Sequences for `start`, the first of the training batches.

    Raises:
        ValueError: If `like` has no frozen weights, or what `kind` raises.
    """

    def __init__(
        self,
        like: GPTWorkload,
        kind: Callable[..., FrozenTransformer],
        start: Callable[[Any, Tensor, Tensor], None] | None = None,
        n_samples: int = 0,
    ) -> None:
        """Shares everything with the other workload."""
        self.__dict__.update(like.__dict__)
        if like.source is None:
            raise ValueError("there are no frozen weights: give initial_weights")
        self.kind, self._start, self._n_samples = kind, start, n_samples
        with torch.device("meta"):
            model = kind(self.shape, like.source.ties, device="meta")
        self._part = {
            name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad
        }

    def begin(self, model: TiedModel, seed: int, batches: torch.Generator) -> None:
        """See `Workload`."""
        assert isinstance(model, FrozenTransformer)
        assert self.source is not None
        model.initialize(seed)
        take_over(model, self.source)
        model.initialize_part(seed)
        if self._start is not None:
            inputs, targets = self.sample("train", self._n_samples, batches)
            assert isinstance(inputs, Tensor)
            self._start(model, inputs, targets)

    def parameter_sizes(self, ties: Ties) -> dict[str, tuple[int, ...]]:
        """See `Workload`."""
        return super().parameter_sizes(ties) | self._part

    def without_moments(self, ties: Ties, frozen: Sequence[bool] | None = None) -> set[str]:
        """See `Workload`."""
        return set(super().parameter_sizes(ties))

    def trainable_params(self, n_independent: int, n_mlp: int | None = None) -> int:
        """Numbers in the part, whatever the ties."""
        return sum(map(math.prod, self._part.values()))

    def expected_state_bytes(self, n_independent: int, n_mlp: int | None = None) -> int:
        """See `Workload`; the ties are those of the frozen weights, as long as the run goes."""
        assert self.source is not None
        held = self.parameter_sizes(self.source.ties).values()
        numbers = sum(map(math.prod, held)) + 3 * self.trainable_params(n_independent)
        return numbers * self.dtype.itemsize + len(self._part) * torch.float32.itemsize

    @property
    def part_bytes(self) -> int:
        """Bytes of the weights of the part alone: what one more of them takes beside the model."""
        return self.trainable_params(0) * self.dtype.itemsize
