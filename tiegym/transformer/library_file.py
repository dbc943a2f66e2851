"""Models of the library `transformers` as exported files: each weight once.

Such a file holds the ties, the library's configuration and the weights that exist. The file itself
is that of `tiegym.transformer.tensor_file`, as for our own transformer. Which class it becomes is
chosen among the library's own by the configuration's type and the kind of output layer: no name of
a class, and no code, comes from the file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tiegym import ties as tie_vectors
from tiegym.config_checks import MOST, MOST_LAYERS
from tiegym.data.tasks.images import Standardisation
from tiegym.library_models import SIZES, config_class, known_entries, library
from tiegym.transformer.gpt_file import COMPUTE_DTYPES
from tiegym.transformer.layer_list import find_layers
from tiegym.transformer.library_model import AUTO, auto_class, saved_buffers
from tiegym.transformer.pretrained import LayerWeights, TiedPretrainedModel
from tiegym.transformer.streams import lent

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FOREIGN = ("auto_map", "attn_implementation", "experts_implementation", "quantization")
"""Parts of the names of entries that could make the library fetch or run something."""

ATTENTION = (None, "eager", "sdpa")
"""What the library chooses by itself."""


def library_values(model: TiedPretrainedModel) -> dict[str, Any]:
    """What a file says of a model beside its weights.

    Raises:
        ValueError: If it is of no class that a task trains.
    """
    config = model.library.config
    kind = type(config)
    entries = {name: v for name, v in config.to_dict().items() if _is_known(name, kind)}
    # Written only where they are: without it the file is one that any version reads.
    private = {"private_norms": True} if model.private_norms else {}
    return private | {
        "library": {
            "model_type": config.model_type,
            "head": head_of(model.library),
            "config": entries,
        },
        "ties": model.ties.tolist(),
        "tie_grad": model.tie_grad,
        "compute_dtype": str(model.compute_dtype or model.library.dtype).removeprefix("torch."),
    }


def _is_known(name: str, kind: Any) -> bool:
    """Whether a type has such an entry; that of some special token may have been added to it."""
    return name in known_entries(kind) or re.fullmatch(r"[a-z]\w*_token_id", name) is not None


def head_of(model: PreTrainedModel) -> str:
    """The kind of output layer of a library's model, as a `Task` names it.

    Raises:
        ValueError: If it has none of them.
    """
    for head in AUTO:
        found = auto_class(head)._model_mapping.get(type(model.config), ())
        if type(model) in (found if isinstance(found, tuple) else (found,)):
            return head
    raise ValueError(
        f"{type(model).__name__} can't be exported: it is none of the library's models with an "
        f"output layer for {', '.join(AUTO)}"
    )


def library_tensors(model: TiedPretrainedModel) -> dict[str, Tensor]:
    """The weights that exist, each once, and what else belongs to the model's state."""
    tensors = {name: p.detach() for name, p in model.named_parameters()}
    return tensors | saved_buffers(model)


def check_library_values(values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Checks a file's values, and that its tensors are those that they ask for.

    Args:
        values: With those of `library_values`.
        tensors: Without content.

    Raises:
        KeyError: If an entry is missing.
        ValueError: If one can't be.
        ImportError: If the library isn't installed.
    """
    ties = values["ties"]
    if not isinstance(ties, list) or any(type(entry) is not int for entry in ties):
        raise ValueError(f"ties={ties!r:.80} is no list of integers")
    tie_vectors.validate(ties, len(ties))  # whose are those of parts, too: see below
    if values["tie_grad"] not in ("owner", "sum"):
        raise ValueError(f"tie_grad={values['tie_grad']!r:.80} is neither owner nor sum")
    if type(private := values.get("private_norms", False)) is not bool:
        raise ValueError(f"private_norms={private!r:.80} is neither true nor false")
    _check_model(values["library"], n_layer=len(ties), n_tensors=len(tensors))
    standardisation_of(values)
    model = _of_file(values, tensors)
    expected = {name: tuple(tensor.shape) for name, tensor in library_tensors(model).items()}
    have = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wrong := [n for n in expected.keys() | have.keys() if expected.get(n) != have.get(n)]:
        name = min(wrong)
        raise ValueError(
            f"{len(wrong)} tensor(s) don't fit its configuration and ties: {name!r:.80} is "
            f"{have.get(name)}, but should be {expected.get(name)}"
        )
    if other := [n for n, p in model.named_parameters() if tensors[n].dtype != p.dtype]:
        name = min(other)
        raise ValueError(
            f"{len(other)} weight(s) are of another type of numbers than its others ask for, such "
            f"as {name!r:.80}, {tensors[name].dtype}"
        )


def _of_file(values: dict[str, Any], tensors: dict[str, Tensor]) -> TiedPretrainedModel:
    """The model of a file without content, of its types of numbers.

    Raises:
        ValueError: As `_without_content`; or if these are of several types, or of none that a model
            can have. (Some types of models keep a few weights in float32 beside another.)
    """
    model = _without_content(values, torch.float32, len(tensors))
    found = {tensors[name].dtype for name, _ in model.named_parameters() if name in tensors}
    (dtype, *more) = found - {torch.float32} or {torch.float32}
    if more or dtype not in COMPUTE_DTYPES.values():
        raise ValueError(f"its weights are of the types {sorted(map(str, found))}, not of one")
    return model if dtype == torch.float32 else _without_content(values, dtype, len(tensors))


def standardisation_of(values: dict[str, Any]) -> Standardisation | None:
    """How a file's images were standardised; None if it has none.

    Raises:
        ValueError: If what it says can't be.
    """
    images = values.get("images")
    if images is None:
        return None
    if not isinstance(images, dict) or images.keys() != {"mean", "deviation"}:
        raise ValueError("its images have other entries than mean and deviation")
    for name, entries in images.items():
        most = 255 if name == "mean" else 128  # the deviation of pixels half of which are 255
        least = 0 if name == "mean" else 1e-6
        good = isinstance(entries, list) and len(entries) in (1, 3)
        if not good or any(type(x) is not float or not least <= x <= most for x in entries):
            raise ValueError(f"the {name} of its images, {entries!r:.80}, can't be")
    if len(images["mean"]) != len(images["deviation"]):
        raise ValueError("its images have a mean and a deviation of other channels")
    return Standardisation(tuple(images["mean"]), tuple(images["deviation"]))


def _check_model(described: Any, n_layer: int, n_tensors: int) -> None:
    """Checks what a file says of the library's model before the library sees it."""
    if not isinstance(described, dict):
        raise ValueError("its library is no dictionary")
    model_type, head, entries = described["model_type"], described["head"], described["config"]
    if not isinstance(model_type, str) or model_type not in library().CONFIG_MAPPING:
        raise ValueError(f"model_type={model_type!r:.80} is no type of the library transformers")
    if not isinstance(head, str) or head not in AUTO:
        raise ValueError(f"head={head!r:.80} is none of {', '.join(AUTO)}")
    if not isinstance(entries, dict):
        raise ValueError("its config is no dictionary")
    kind = config_class(model_type)
    if unknown := sorted(name for name in entries if not _is_known(name, kind)):
        raise ValueError(f"its config has {unknown[0]!r:.80}, which {kind.__name__} doesn't")
    layers = {*SIZES["n_layer"], *(kind.attribute_map.get(name) for name in SIZES["n_layer"])}
    for name, value in _entries(entries):
        if any(part in name for part in FOREIGN):
            raise ValueError(f"its config has {name!r:.80}, which may ask for foreign code")
        most = MOST_LAYERS if name.startswith("num_") else MOST
        if name in layers:  # each is a tensor in the file, or a tie
            most = max(n_layer, n_tensors)
        if isinstance(value, int) and abs(value) > most:
            raise ValueError(f"{name}={value!r:.40} of its config is larger than {most}")


def _entries(entries: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """All values of nested lists and dictionaries, each with the name that is nearest."""
    if isinstance(entries, dict):
        for key, value in entries.items():
            yield key, None
            yield from _entries(value, key)
    elif isinstance(entries, list):
        for value in entries:
            yield from _entries(value, name)
    else:
        yield name, entries


PARTS_OF_A_TENSOR = 8
"""Modules and weights that each layer of a model may have for each tensor of its file: with all
layers tied, the file has those of one."""


@contextmanager
def _no_more_than(most: int) -> Iterator[None]:
    """Ends what builds a model where it has more modules and weights than a file can stand for.

    Raises:
        ValueError: If it has.
    """
    count = itertools.count(1)

    def registered(*args: Any) -> None:
        if next(count) > most:
            raise ValueError(f"it asks for more than {most:,} modules and weights")

    hooks = (
        torch.nn.modules.module.register_module_module_registration_hook(registered),
        torch.nn.modules.module.register_module_parameter_registration_hook(registered),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _without_content(
    values: dict[str, Any], dtype: torch.dtype, n_tensors: int = MOST
) -> TiedPretrainedModel:
    """The tied model on the device "meta": its weights take no memory, whatever their sizes.

    Args:
        values: Of the file.
        dtype: Of its weights.
        n_tensors: Of the file, by which it can have so many modules and no more.

    Raises:
        ValueError: If the library can't make it, or its layers don't go with the ties.
    """
    from transformers.initialization import no_init_weights

    described = values["library"]
    name = described["model_type"]
    most = PARTS_OF_A_TENSOR * (n_tensors + 16) * len(values["ties"])
    try:
        config = config_class(name)(**described["config"])
        if config._attn_implementation not in ATTENTION:
            raise ValueError(f"attention {config._attn_implementation!r} is foreign code")
        with torch.device("meta"), no_init_weights(), _no_more_than(most):
            made = auto_class(described["head"]).from_config(
                config, dtype=dtype, trust_remote_code=False
            )
        made.tie_weights()
    except Exception as error:  # of many types: configurations and models check themselves
        raise ValueError(f"no model {name!r} can be made of its config: {error}") from error
    ties, n_layer = np.array(values["ties"]), find_layers(made).n_layer
    if len(ties) not in (n_layer, 2 * n_layer):
        raise ValueError(f"it has {len(ties)} ties for {n_layer} layers")
    private = values.get("private_norms", False)
    return TiedPretrainedModel(made, ties, values["tie_grad"], private_norms=private)


def embedded_tokens(values: dict[str, Any]) -> int:
    """How many tokens the model of a file has embeddings for."""
    table: Any = _without_content(values, torch.float32).library.get_input_embeddings()
    return int(table.weight.shape[0])


def load_library_model(
    values: dict[str, Any],
    tensors: dict[str, Tensor],
    device: torch.device | str,
    compute_dtype: torch.dtype,
) -> TiedPretrainedModel:
    """The tied model of a file, in evaluation mode.

    Only the weights that the file has are ever made: no more memory than it has bytes.

    Args:
        values: As `check_library_values` found them right.
        tensors: With their content.
        device: Where to.
        compute_dtype: Of the computation.
    """
    model = _of_file(values, tensors)
    _give_content(model, torch.device(device))
    with lent(torch.Generator(model.device)):
        # For what is no weight and in no file, such as frequencies of rotary positions.
        model.library.initialize_weights()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for name, tensor in library_tensors(model).items():
            tensor.copy_(tensors[name])
    model.compute_dtype = compute_dtype
    return model.eval()


def _give_content(model: TiedPretrainedModel, device: torch.device) -> None:
    """Makes tensors with memory in place of those without; what is shared stays shared."""
    made = {
        id(p): nn.Parameter(torch.empty_like(p, device=device), p.requires_grad)
        for p in model.parameters()
    }
    units = sorted(set(model.roots))
    blocks = {
        unit: LayerWeights({n: made[id(p)] for n, p in model.independent(unit).named_parameters()})
        for unit in units
    }
    for module in model.library.modules():
        for name, p in module._parameters.items():
            if p is not None:
                module._parameters[name] = made[id(p)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_like(buffer, device=device)
    model.set_blocks(model.ties, blocks)
