"""Finding the layers of a model of the library `transformers`: by what they are, not by a path."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn


@dataclass(frozen=True)
class LayerList:
    """The list of layers of a model.

    Attributes:
        path: Of the `nn.ModuleList` in the model.
        modules: The layers.
        parts: Names of the parameters that all layers have: what a tie shares. Those of the layer,
            or of its attention and of its MLP; see `tiegym.transformer.layer_parts`.
        private: For each layer, what stays its own whatever its ties: what not all layers have,
            such as the relative position bias of T5's first one, and norms where these are private.
        kinds: For each layer, its entry in `config.layer_types`, such as "sliding_attention"; only
            layers of one kind may share weights. "" where there are no such entries.
    """

    path: str
    modules: list[nn.Module]
    parts: tuple[tuple[str, ...], ...]
    private: tuple[tuple[str, ...], ...]
    kinds: tuple[str, ...]

    @property
    def n_layer(self) -> int:
        """How many."""
        return len(self.modules)

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the parameters that all layers have, part by part."""
        return tuple(name for part in self.parts for name in part)

    @cached_property
    def shared_names(self) -> list[tuple[str, ...]]:
        """For each layer, or unit, the names in the model of what its ties share."""
        layers = range(self.n_layer)
        return [tuple(f"{self.path}.{i}.{n}" for n in part) for part in self.parts for i in layers]

    @property
    def unit_kinds(self) -> tuple[str, ...]:
        """The kinds of all units: an MLP works alike whatever attention is before it."""
        return self.kinds + ("",) * self.n_layer * (len(self.parts) - 1)


def find_layers(model: nn.Module, private_norms: bool = False) -> LayerList:
    """The list of equally shaped layers that holds most of a model's parameters.

    Equally shaped are modules of one class whose parameters of the same name have one size. Some
    may have further parameters, but those of all must be the larger part of each.

    Args:
        model: A `transformers.PreTrainedModel`; without content (on the device "meta") will do.
        private_norms: Whether each layer keeps the weights of its norms to itself.

    Raises:
        ValueError: If there is no such list, or its layers have no norms to keep.
    """
    found: tuple[int, str, list[nn.Module], tuple[str, ...]] | None = None
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList) or not len(module):
            continue
        layers = list(module)
        shared = _shared(layers)
        numbers = sum(p.numel() for p in module.parameters())
        if shared and (found is None or numbers > found[0]):
            found = (numbers, path, layers, shared)
    if found is None:
        raise ValueError(
            f"{type(model).__name__} has no list of equal layers (an nn.ModuleList of modules of "
            "one class with parameters of the same sizes): nothing in it can share weights"
        )
    _, path, layers, shared = found
    if private_norms:
        norms = _norms(layers[0])
        if not norms & set(shared):
            raise ValueError(f"{type(model).__name__} has no norms that its layers could keep")
        shared = tuple(name for name in shared if name not in norms)
    private = tuple(
        tuple(name for name, _ in layer.named_parameters() if name not in shared)
        for layer in layers
    )
    return LayerList(path, layers, (shared,), private, _kinds(model, path, len(layers)))


def _shared(layers: list[nn.Module]) -> tuple[str, ...]:
    """The names of what equal layers have in common; none if they aren't equal."""
    sizes = [{name: p.shape for name, p in layer.named_parameters()} for layer in layers]
    names = [name for name in sizes[0] if all(name in s for s in sizes)]
    same = all(s[name] == sizes[0][name] for s in sizes for name in names)
    if not same or any(type(layer) is not type(layers[0]) for layer in layers):
        return ()
    common = sum(sizes[0][name].numel() for name in names)
    largest = max(sum(size.numel() for size in s.values()) for s in sizes)
    return tuple(names) if 2 * common > largest else ()


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm: one of a class called so."""
    return "Norm" in type(module).__name__


def _norms(layer: nn.Module) -> set[str]:
    """The names of the parameters of a layer's norms."""
    return {
        f"{path}.{name}"
        for path, module in layer.named_modules()
        if is_norm(module)
        for name, _ in module.named_parameters(recurse=False)
    }


def _kinds(model: nn.Module, path: str, n_layer: int) -> tuple[str, ...]:
    """The entries of `layer_types` in the configuration of the part of the model that has them."""
    owner: Any = model
    for name in path.split("."):
        kinds = getattr(getattr(owner, "config", None), "layer_types", None)
        owner = getattr(owner, name)
    return tuple(kinds) if kinds is not None and len(kinds) == n_layer else ("",) * n_layer
