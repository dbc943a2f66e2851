"""Making models of `transformers`: their plan, without weights, and the models themselves.

Weights of pretrained ones are read in `tiegym.transformer.library_weights`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tiegym import parts
from tiegym.config import TieConfig
from tiegym.data.tasks.task import Task
from tiegym.library_models import (
    library,
)
from tiegym.ties import Ties
from tiegym.transformer.layer_list import LayerList, find_layers
from tiegym.transformer.layer_parts import apart
from tiegym.transformer.library_config import first_position, make_config
from tiegym.transformer.pretrained import TiedPretrainedModel
from tiegym.transformer.streams import lent

if TYPE_CHECKING:
    from transformers import PreTrainedModel

AUTO = {
    "masked-lm": "AutoModelForMaskedLM",
    "causal-lm": "AutoModelForCausalLM",
    "image-classification": "AutoModelForImageClassification",
    "sequence-classification": "AutoModelForSequenceClassification",
    "question-answering": "AutoModelForQuestionAnswering",
}
"""For each kind of output layer, as a `Task` names it, the library's class that makes models."""


@dataclass(frozen=True)
class Plan:
    """A model of `transformers` without content: what its weights will be.

    Attributes:
        config: The library's configuration.
        head: The output layer, as a `Task` names it.
        layers: Where its layers are.
        sizes: Of all parameters of an untied model, by their names in a `TiedPretrainedModel`.
        buffers: Sizes of the buffers that are saved with them, by name.
        dtypes: Of both; a type may keep some in float32 whatever the others have.
        constant: Names of those that the library never trains, such as fixed positions.
    """

    config: Any
    head: str
    layers: LayerList
    sizes: dict[str, tuple[int, ...]]
    buffers: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    constant: frozenset[str]

    def parameter_sizes(self, ties: Ties) -> dict[str, tuple[int, ...]]:
        """The sizes of all weights that exist with these ties, by their names."""
        gone = self._gone(ties)
        return {name: size for name, size in self.sizes.items() if name not in gone}

    def stored_bytes(self, ties: Ties) -> int:
        """Bytes of all weights that exist with these ties, and of the buffers beside them."""
        gone = self._gone(ties)
        return self.nbytes((self.sizes | self.buffers).keys() - gone)

    def nbytes(self, names: Set[str]) -> int:
        """Bytes of weights, or buffers, of these names."""
        sizes = self.sizes | self.buffers
        return sum(math.prod(sizes[name]) * self.dtypes[name].itemsize for name in names)

    def _gone(self, ties: Ties) -> set[str]:
        """The names of the weights that don't exist with these ties."""
        roots = parts.roots(ties, self.layers.n_layer)
        return {
            f"library.{name}"
            for unit, names in enumerate(self.layers.shared_names)
            if roots[unit] != unit
            for name in names
        }

    def trainable(self, n_independent: int, n_mlp: int | None = None) -> tuple[int, int, int]:
        """Numbers that train with so many independent layers, their bytes, and their tensors.

        Args:
            n_independent: Layers, or attention parts of layers.
            n_mlp: MLP parts, if they share weights apart.
        """
        inside = {f"library.{name}" for names in self.layers.shared_names for name in names}
        found = self._count(self.sizes.keys() - inside)
        counts = (n_independent, n_mlp or 0)[: len(self.layers.parts)]
        for part, n in enumerate(counts):
            first = self.layers.shared_names[part * self.layers.n_layer]
            found += n * self._count({f"library.{name}" for name in first})
        numbers, nbytes, tensors = found.tolist()
        return numbers, nbytes, tensors

    def _count(self, names: Set[str]) -> npt.NDArray[np.int64]:
        """Of parameters of these names, as `trainable` counts."""
        trained = names - self.constant
        numbers = sum(math.prod(self.sizes[name]) for name in trained)
        return np.array([numbers, self.nbytes(trained), len(trained)], dtype=np.int64)


def make_plan(config: TieConfig, task: Task, dtype: torch.dtype) -> Plan:
    """Plans the model of an environment's arguments; makes no weights.

    Args:
        config: The arguments.
        task: What the model learns.
        dtype: Of its weights, but for those that the library keeps in another.

    Raises:
        ValueError: If the library can't make it, it has no list of equal layers or one of another
            length than n_layer, its positions are fewer than block_size, or its attention and MLP
            can't be told apart where they are to be tied apart.
    """
    made = make_config(config, task)
    positions: int | None = getattr(made, "max_position_embeddings", None)
    fresh = not config.model.startswith("hf:")
    if (
        fresh and positions is not None
    ):  # room for types whose positions begin behind the padding token's number
        positions += 1 + (getattr(made, "pad_token_id", None) or 0)
        made.max_position_embeddings = positions
    empty = _empty(config, made, task.head, dtype)
    skipped = first_position(empty, made)
    if fresh and positions is not None and not skipped:
        positions = made.max_position_embeddings = config.block_size
        empty = _empty(config, made, task.head, dtype)
    if task.block_size and positions is not None and positions - skipped < task.block_size:
        raise ValueError(
            f"block_size={config.block_size} is longer than model={config.model!r}, which has "
            f"{positions - skipped} positions: lower it"
        )
    layers = find_layers(empty, config.private == "norms")
    if config.n_parts > 1:
        layers = apart(layers)
    if layers.n_layer != config.n_layer:
        raise ValueError(
            f"n_layer={config.n_layer}, but the list of layers of model={config.model!r}, "
            f"{layers.path}, has {layers.n_layer}: give the same number"
        )
    weights = {f"library.{name}": p for name, p in empty.named_parameters()}
    sizes = {name: tuple(p.shape) for name, p in weights.items()}
    constant = frozenset(name for name, p in weights.items() if not p.requires_grad)
    saved = {f"library.{name}": b for name, b in saved_buffers(empty).items()}
    buffers = {name: tuple(b.shape) for name, b in saved.items()}
    dtypes = {name: tensor.dtype for name, tensor in (weights | saved).items()}
    return Plan(made, task.head, layers, sizes, buffers, dtypes, constant)


def saved_buffers(model: nn.Module) -> dict[str, Tensor]:
    """The buffers that a model's state dict has, by name."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return {name: value for name, value in model.state_dict().items() if name not in weights}


def _empty(config: TieConfig, made: Any, head: str, dtype: torch.dtype) -> PreTrainedModel:
    """A model without content."""
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto_class(head).from_config(
                copy.deepcopy(made), dtype=dtype, trust_remote_code=False
            )
    except Exception as error:  # of many types: the models check themselves
        raise ValueError(f"model={config.model!r} can't be made: {error}") from error
    return model


def auto_class(head: str) -> Any:
    """The library's class that makes models with an output layer, one of `AUTO`."""
    return getattr(library(), AUTO[head])


def make_model(
    plan: Plan,
    ties: Ties,
    device: torch.device,
    dtype: torch.dtype,
    **arguments: Any,
) -> TiedPretrainedModel:
    """A model with these ties, its weights without values.

    Args:
        plan: Of the model.
        ties: Shape (P L,).
        device: Where it lives.
        dtype: Of its weights.
        **arguments: Further ones of `TiedPretrainedModel`.
    """
    from transformers.initialization import no_init_weights

    # What modules draw when they are made isn't used, and mustn't come from the global generator.
    with lent(torch.Generator()), no_init_weights():
        model = auto_class(plan.head).from_config(
            copy.deepcopy(plan.config), dtype=dtype, trust_remote_code=False
        )
    model.tie_weights()
    return TiedPretrainedModel(model, ties, **arguments).to(device)
