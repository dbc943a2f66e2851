"""What a trainer trains: a transformer with its data and its loss.

There are two kinds: `tiegym.training.gpt_workload` for our own transformer and
`tiegym.training.library_workload` for those of `transformers`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tiegym.config import TieConfig
from tiegym.data.tasks.task import Task, TaskData
from tiegym.data.token_data import TokenData
from tiegym.ties import Ties
from tiegym.training.resolve import resolve_device, resolve_dtype
from tiegym.transformer.tensor_file import tensors_sha256
from tiegym.transformer.tied_model import TiedModel

Inputs: TypeAlias = Tensor | dict[str, Tensor]
"""Tokens (B, T), or keyword arguments of a model of `transformers`, each (B, ...)."""

Batch: TypeAlias = tuple[Inputs, Tensor]
"""Inputs and targets of B rows."""


class Workload(ABC):
    """A transformer with its data and its loss.

    Attributes:
        config: The environment's arguments.
        task: What is learnt, and the facts of its data.
        data: Its rows, on the device.
        device: Where all of it is.
        kinds: Of each unit, where only units of one kind may share weights; else None.
        all_used: Whether every weight gets a gradient: a model of another library may have some
            that its task doesn't need, which then have no moments.
        rows_as_tokens: Tokens of a row, as `info["tokens"]` counts them; an image is one.
    """

    config: TieConfig
    task: Task
    data: TokenData | TaskData
    device: torch.device
    kinds: Sequence[str] | None = None
    all_used: bool = True
    rows_as_tokens: int

    def __init__(self, config: TieConfig, task: Task) -> None:
        """Finds the device and the dtypes.

        Raises:
            ValueError: If the device isn't there.
        """
        self.config, self.task = config, task
        self.device = resolve_device(config.device)
        self.dtype, self.compute_dtype = resolve_dtype(config.dtype, self.device)
        self.rows_as_tokens = task.block_size or 1

    @cached_property
    def weights_sha256(self) -> str | None:
        """Of the weights that an episode begins with, as they were read; None if none were."""
        given = self.given_weights
        return None if given is None else tensors_sha256(given)

    @property
    @abstractmethod
    def given_weights(self) -> Mapping[str, Tensor] | None:
        """The weights that an episode begins with, by name; None if all of them are drawn."""

    @abstractmethod
    def make(self, ties: Ties, dropout: torch.Generator) -> TiedModel:
        """The transformer, its weights without values.

        Args:
            ties: Its ties, (P L,).
            dropout: Where its dropout draws from.
        """

    @abstractmethod
    def begin(self, model: TiedModel, seed: int, batches: torch.Generator) -> None:
        """Gives the weights their first values.

        Args:
            model: What `make` made.
            seed: Of the weights.
            batches: At the beginning of the training batches' stream; may be advanced.
        """

    @abstractmethod
    def sample(self, split: str, n: int, generator: torch.Generator) -> Batch:
        """Random rows of a split, n of them."""

    @abstractmethod
    def test_batches(self) -> Iterator[Batch]:
        """The test split, or what `test_tokens` takes of it, always in the same batches."""

    @abstractmethod
    def outputs(self, model: TiedModel, inputs: Inputs, depth: int | None = None) -> object:
        """What a forward pass gives, for `loss` and the task's metrics."""

    @abstractmethod
    def loss(self, model: TiedModel, batch: Batch, depth: int | None = None) -> Tensor:
        """The mean loss of a batch in nats, a scalar of float32 or wider."""

    def count(self, targets: Tensor) -> int:
        """How many things the loss of a batch with these targets is the mean of."""
        return self.task.count(targets)

    @abstractmethod
    def lends_dropout(self, model: TiedModel) -> bool:
        """Whether dropout draws from PyTorch's global generator, which must be lent a stream."""

    @abstractmethod
    def parameter_sizes(self, ties: Ties) -> dict[str, tuple[int, ...]]:
        """The sizes of all weights of the transformer by their names, without building it."""

    def dtype_of(self, name: str) -> torch.dtype:
        """The dtype of a weight, or of a buffer that is saved, by its name."""
        return self.dtype

    @property
    def buffer_sizes(self) -> dict[str, tuple[int, ...]]:
        """The sizes of what belongs to a model's state beside its weights, by name."""
        return {}

    @abstractmethod
    def stored_bytes(self, ties: Ties) -> int:
        """Bytes of the tensors in the file that `TieEnv.export` writes with these ties.

        Each weight is there once, in its smallest exact form, and so are buffers that are saved.
        Found from sizes, without building the transformer.

        Args:
            ties: Shape (P L,).
        """

    @abstractmethod
    def without_moments(self, ties: Ties, frozen: Sequence[bool] | None = None) -> set[str]:
        """Names of the weights that don't train with these ties.

        Args:
            ties: Shape (P L,).
            frozen: Which units train no more, (P L,); None is none.
        """

    @abstractmethod
    def trainable_params(self, n_independent: int, n_mlp: int | None = None) -> int:
        """Parameters that train where so many layers are independent and train.

        Args:
            n_independent: Layers, or attention parts of layers.
            n_mlp: MLP parts, if they are as many as others.
        """

    @abstractmethod
    def expected_state_bytes(self, n_independent: int, n_mlp: int | None = None) -> int:
        """Bytes of model state that so many independent layers will take, without building any."""


def resolved_config(workload: Workload) -> dict[str, Any]:
    """The configuration, what "auto" stands for here, and hashes of all that it names."""
    task = workload.task
    found = {
        "device": workload.device.type,
        "dtype": f"{workload.dtype}, {workload.compute_dtype}",
        "corpus_sha256": task.sha256,
        "tokenizer_sha256": None if task.tokenizer is None else task.tokenizer.sha256,
        "weights_sha256": workload.weights_sha256,
    }
    return dataclasses.asdict(workload.config) | found


def rows(batch: Batch, start: int, stop: int) -> Batch:
    """Some rows of a batch: views of it."""
    inputs, targets = batch
    if isinstance(inputs, Tensor):
        return inputs[start:stop], targets[start:stop]
    return {name: value[start:stop] for name, value in inputs.items()}, targets[start:stop]


def named(prefix: str, batch: Batch) -> dict[str, Tensor]:
    """The tensors of a batch by names that begin with a prefix."""
    inputs, targets = batch
    if isinstance(inputs, Tensor):
        return {f"{prefix}.inputs": inputs, f"{prefix}.targets": targets}
    each = {f"{prefix}.inputs.{name}": value for name, value in inputs.items()}
    return each | {f"{prefix}.targets": targets}


def unnamed(prefix: str, tensors: dict[str, Tensor], device: torch.device) -> Batch:
    """A copy on a device of the batch that `named` gave these names."""
    copies = {
        name.removeprefix(f"{prefix}."): value.to(device, copy=True)
        for name, value in tensors.items()
        if name.startswith(f"{prefix}.")
    }
    targets = copies.pop("targets")
    if "inputs" in copies:
        return copies["inputs"], targets
    return {name.removeprefix("inputs."): value for name, value in copies.items()}, targets
