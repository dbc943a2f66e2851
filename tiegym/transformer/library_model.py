"""Making models of `transformers`: their plan, without weights, and the models themselves."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiegym import parts
from tiegym.config import Merge, TieConfig
from tiegym.data import hub
from tiegym.data.tasks.task import Task
from tiegym.library_models import checked_file, library, pretrained_config
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
        constant: Names of those that the library never trains, such as fixed positions.
    """

    config: Any
    head: str
    layers: LayerList
    sizes: dict[str, tuple[int, ...]]
    constant: frozenset[str]

    def parameter_sizes(self, ties: Ties) -> dict[str, tuple[int, ...]]:
        """The sizes of all weights that exist with these ties, by their names."""
        roots = parts.roots(ties, self.layers.n_layer)
        tied = {
            f"library.{name}"
            for unit, names in enumerate(self.layers.shared_names)
            if roots[unit] != unit
            for name in names
        }
        return {name: size for name, size in self.sizes.items() if name not in tied}

    def trainable(self, n_independent: int, n_mlp: int | None = None) -> tuple[int, int]:
        """Numbers, and the tensors that hold them, that train with so many independent layers.

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
        numbers, tensors = found.tolist()
        return numbers, tensors

    def _count(self, names: Set[str]) -> npt.NDArray[np.int64]:
        """Numbers that train of parameters of these names, and tensors."""
        sizes = [math.prod(self.sizes[name]) for name in names - self.constant]
        return np.array([sum(sizes), len(sizes)], dtype=np.int64)


def make_plan(config: TieConfig, task: Task) -> Plan:
    """Plans the model of an environment's arguments; makes no weights.

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
        positions += 1 + (made.pad_token_id or 0)
        made.max_position_embeddings = positions
    empty = _empty(config, made, task.head)
    skipped = first_position(empty, made)
    if fresh and positions is not None and not skipped:
        positions = made.max_position_embeddings = config.block_size
        empty = _empty(config, made, task.head)
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
    return Plan(made, task.head, layers, sizes, constant)


def _empty(config: TieConfig, made: Any, head: str) -> PreTrainedModel:
    """A model without content."""
    try:
        with torch.device("meta"):
            model: PreTrainedModel = auto_class(head).from_config(
                copy.deepcopy(made), dtype=torch.float32, trust_remote_code=False
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


def read_pretrained(config: TieConfig, plan: Plan) -> dict[str, Tensor]:
    """The weights of a pretrained model, of all layers, float32 on the CPU.

    Args:
        config: With a model hf:ID_OR_FOLDER.
        plan: Made of it.

    Returns:
        By their names in a `TiedPretrainedModel`; output layers that it lacks are missing.

    Raises:
        FileNotFoundError: If a folder has no safetensors file.
        OSError: If it can't be had.
        ValueError: If the weights don't fit the configuration.
    """
    place = config.model.removeprefix("hf:")
    folder = Path(place)
    arguments: dict[str, Any] = {}
    if folder.is_dir():
        _check_files(folder)
    else:
        arguments["local_files_only"] = not hub.is_reachable()
    theirs = pretrained_config(config.model)
    for name in ("id2label", "label2id"):
        if hasattr(plan.config, name):
            setattr(theirs, name, getattr(plan.config, name))
    try:
        with lent(torch.Generator()), no_progress_bars():
            model, info = auto_class(plan.head).from_pretrained(
                place,
                config=theirs,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **arguments,
            )
    except OSError as error:
        raise OSError(f"the weights of model={config.model!r} can't be read: {error}") from error
    except Exception as error:  # of many types, safetensors' own among them
        raise ValueError(f"the weights of model={config.model!r} don't fit: {error}") from error
    missing = set(info["missing_keys"])
    inside = {name for names in plan.layers.shared_names for name in names}
    if lost := sorted(missing & inside):
        raise ValueError(
            f"the weights of model={config.model!r} lack {len(lost)} of its layers' parameters, "
            f"such as {lost[0]}: it isn't the model that its config.json describes"
        )
    weights = model.state_dict()
    found = {f"library.{n}": weights[n] for n, _ in model.named_parameters() if n not in missing}
    for name, weight in found.items():
        size, rows = plan.sizes.get(name), theirs.get_text_config().vocab_size
        grown = size is not None and (rows, *size[1:]) == weight.shape and size[0] > rows
        if size != weight.shape and not grown:
            raise ValueError(
                f"the weights of model={config.model!r} don't fit: {name} is of size "
                f"{tuple(weight.shape)}, but the configuration asks for {size}"
            )
    return found


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """A context in which the library draws none: whoever runs this draws their own."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _check_files(folder: Path) -> None:
    """Checks that a folder has weights that can be read without running anything."""
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"model='hf:{folder}' is an adapter: give the model with it merged in")
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise FileNotFoundError(
            f"model='hf:{folder}' has no weights: there is no *.safetensors file in it"
            + (", and pickled ones (*.bin) are never read: save it anew" if pickled else "")
        )
    for path in (*found, *folder.glob("*.safetensors.index.json")):
        checked_file(folder, path.name)


@torch.no_grad()
def take_over(model: TiedPretrainedModel, source: Mapping[str, Tensor], merge: Merge) -> None:
    """Gives a model pretrained weights, as far as there are some.

    Args:
        model: Initialised.
        source: What `read_pretrained` returned.
        merge: What a root gets that several layers use: "first" its own weights, those of the first
            of them; "mean" the mean over all of them.
    """
    names, roots = model.layers.shared_names, model.roots
    inside = {f"library.{name}": unit for unit, each in enumerate(names) for name in each}
    for name, p in model.named_parameters():
        if name not in source:
            continue
        if merge == "mean" and name in inside:
            root = inside[name]
            place = names[root].index(name.removeprefix("library."))
            users = [unit for unit, r in enumerate(roots) if r == root]
            each = [source[f"library.{names[unit][place]}"] for unit in users]
            p.copy_(torch.stack(each).mean(0))
        elif p.shape == source[name].shape:
            p.copy_(source[name])
        else:  # rows for tokens that the pretrained model doesn't have stay as they begin
            p[: len(source[name])].copy_(source[name])
