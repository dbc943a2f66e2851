"""A model of the library `transformers` whose layers may share weights.

Each position keeps the library's own module, for what belongs to a position: its place in the
key-value cache, its kind of attention, its buffers. Its parameters are those of its root. Where a
gradient must not reach them, the module runs with constants in their place; see `_run`. (One module
called at several positions would be wrong: in the library's cache, later ones would then attend to
the keys of earlier ones.)

What a model is made of is in `tiegym.transformer.library`, how its layers are found in
`tiegym.transformer.layer_list`.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tiegym import parts
from tiegym.ties import Ties
from tiegym.transformer.layer_list import find_layers
from tiegym.transformer.layer_parts import apart
from tiegym.transformer.streams import begin_stream, lent, numpy_kept
from tiegym.transformer.tied_model import TiedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Replacements: TypeAlias = dict[int, Sequence[Tensor]]
"""By unit, what its module holds for a while instead of the parameters that it shares."""


class LayerWeights:
    """The weights of one independent layer, or of one of its parts, by their names in it."""

    def __init__(self, weights: dict[str, nn.Parameter]) -> None:
        """Holds these parameters themselves, not copies."""
        self._weights = weights

    def parameters(self) -> Iterator[nn.Parameter]:
        """In the order in which the layer has them."""
        return iter(self._weights.values())

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same with their names."""
        return iter(self._weights.items())

    def get_parameter(self, target: str) -> nn.Parameter:
        """That of a name."""
        return self._weights[target]

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Lets them train or not."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    @torch.no_grad()
    def copy_(self, other: LayerWeights) -> Self:
        """Takes over the values of another layer's weights, in place."""
        for mine, its in zip(self.parameters(), other.parameters(), strict=True):
            mine.copy_(its)
        return self


class TiedPretrainedModel(TiedModel):
    """A model of `transformers` that holds weights for its independent layers only.

    It computes exactly what the library's model computes with the weights of each root copied out
    to all layers that use them, cached generation included. Parameters that not all layers have
    stay those of their position, as do norms that are private. The library's model is `library`:
    its `generate`, `config` and `state_dict()`, which has the weights of every layer, are there for
    use.

    Args:
        library: The library's model. It is taken over: the weights of tied layers go.
        ties: The tie vector, shape (L,); or those of attention and MLP, (2L,), which are then what
            is called a unit here. See `tiegym.parts`.
        tie_grad: As in `TiedModel`.
        compute_dtype: bfloat16 computes under `torch.autocast`, as is usual for such models; None
            is the dtype of the weights.
        checkpoint_activations: Whether training keeps only each layer's input and computes the
            rest again in the backward pass.
        private_norms: Whether each layer keeps the weights of its norms to itself.

    Raises:
        ValueError: If the model has no list of equal layers, their parts can't be told apart, or
            layers of two kinds are tied.
    """

    def __init__(
        self,
        library: PreTrainedModel,
        ties: Ties,
        tie_grad: Literal["owner", "sum"] = "owner",
        compute_dtype: torch.dtype | None = None,
        checkpoint_activations: bool = False,
        private_norms: bool = False,
    ) -> None:
        """Lets all layers that a tie vector ties use the weights of their roots."""
        layers = find_layers(library, private_norms)
        if len(ties) == 2 * layers.n_layer:
            layers = apart(layers)
        super().__init__(layers.n_layer, ties, tie_grad)
        self.library = library
        self.layers = layers
        self.private_norms = private_norms
        self._check_kinds(ties)
        self.compute_dtype = compute_dtype
        self.checkpoint_activations = checkpoint_activations
        self._may_cache = "use_cache" in inspect.signature(library.forward).parameters
        self._places = [
            [_place(module, name) for name in part]
            for part in layers.parts
            for module in layers.modules
        ]
        self._own = {
            unit: LayerWeights({name: holder[key] for name, (holder, key) in self._named(unit)})
            for unit in sorted(set(self._roots))
        }
        self._forwards = [module.forward for module in layers.modules]
        for position, module in enumerate(layers.modules):
            module.forward = partial(self._run, position)
        self._place(self._own)

    def _named(self, unit: int) -> Iterator[tuple[str, tuple[dict[str, Any], str]]]:
        """The names in its layer of what a unit shares, and where its module keeps it."""
        return zip(self.layers.parts[unit // self.n_layer], self._places[unit], strict=True)

    def _units(self, position: int) -> range:
        """The units of a layer."""
        return range(position, len(self._roots), self.n_layer)

    def independent(self, unit: int) -> LayerWeights:
        """The weights of an independent layer, or unit.

        Raises:
            KeyError: If it is tied: it has no weights of its own.
        """
        return self._own[unit]

    def new_block(self, unit: int = 0) -> LayerWeights:
        """Uninitialised weights of a layer's, or unit's, sizes, device and dtypes."""
        first = unit - unit % self.n_layer  # of layer 0, which is never tied
        like = self._own[first].named_parameters()
        return LayerWeights({name: nn.Parameter(torch.empty_like(p)) for name, p in like})

    def set_blocks(
        self, ties: Ties, blocks: dict[int, Any], frozen: Collection[int] | None = None
    ) -> None:
        """As in `TiedModel`.

        Raises:
            ValueError: If layers of two kinds are tied.
        """
        self._check_kinds(ties)
        super().set_blocks(ties, blocks, frozen)

    def _check_kinds(self, ties: Ties) -> None:
        kinds, n_layer = self.layers.unit_kinds, self.layers.n_layer
        for unit, target in enumerate(parts.forest(ties, n_layer).tolist()):
            if kinds[unit] != kinds[target]:
                raise ValueError(
                    f"ties={ties.tolist()} ties layer {unit % n_layer} ({kinds[unit]}) to layer "
                    f"{target % n_layer} ({kinds[target]}): only layers of one kind can share "
                    "weights"
                )

    def _place(self, blocks: dict[int, LayerWeights]) -> None:
        self._own = blocks
        for unit, places in enumerate(self._places):
            weights = blocks[self._roots[unit]].parameters()
            for (holder, name), p in zip(places, weights, strict=True):
                holder[name] = p

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the library's model returns, a mapping; without a cache unless one is asked for."""
        dtype = self.compute_dtype
        mixed = dtype is not None and dtype != self.library.dtype
        context = torch.autocast(self.device.type, dtype) if mixed else nullcontext()
        if self._may_cache:
            kwargs.setdefault("use_cache", False)
        with context, numpy_kept():
            return self.library(*args, **kwargs)

    def _run(self, position: int, *args: Any, **kwargs: Any) -> Any:
        """What takes the place of a layer's `forward`."""
        weights = self._constants(position) if torch.is_grad_enabled() else {}
        if self.checkpoint_activations and self.training and torch.is_grad_enabled():
            run = numpy_kept()(partial(self._with, position, weights))
            return checkpoint(run, *args, use_reentrant=False, **kwargs)
        return self._with(position, weights, *args, **kwargs)

    def _with(self, position: int, weights: Replacements, *args: Any, **kwargs: Any) -> Any:
        """Runs the library's own forward pass of a layer, with other weights or its own."""
        if not weights:
            return self._forwards[position](*args, **kwargs)
        with self._replaced(weights):
            return self._forwards[position](*args, **kwargs)

    def _constants(self, position: int) -> Replacements:
        """What the units of a layer use instead of their roots' parameters, where it is others."""
        found: Replacements = {}
        for unit in self._units(position):
            own, learns = self._own[self._roots[unit]], self._learns(unit)
            if self.watch is not None:
                used = {n: p if learns else p.detach() for n, p in own.named_parameters()}
                found[unit] = list(self.watch(unit, used).values())
            elif not learns:
                found[unit] = [p.detach() for p in own.parameters()]
        return found

    @contextmanager
    def _replaced(self, weights: Replacements) -> Iterator[None]:
        """A context in which the modules of some units hold other tensors for parameters.

        As `torch.func.functional_call` does it, but with the places known beforehand.
        """
        places = [place for unit in weights for place in self._places[unit]]
        before = [holder[name] for holder, name in places]
        try:
            for (holder, name), tensor in zip(places, chain(*weights.values()), strict=True):
                holder[name] = tensor
            yield
        finally:
            for (holder, name), parameter in zip(places, before, strict=True):
                holder[name] = parameter

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Sets all weights in place as the library does, from streams for each layer.

        A layer's initial values depend on the seed and its number alone, not on the ties.

        Args:
            seed: Not negative.
        """
        generator = torch.Generator(self.device)
        inside = self.library.get_submodule(self.layers.path)
        with lent(begin_stream(generator, seed, 0)):
            _initialize(self.library, self.library, inside)
        for position, module in enumerate(self.layers.modules):
            units = self._units(position)
            tied = [unit for unit in units if self._roots[unit] != unit]
            own = self.layers.private[position] or any(True for _ in module.buffers())
            if len(tied) == len(units) and not own:
                continue
            scratch: Replacements = {u: list(self.new_block(u).parameters()) for u in tied}
            with self._replaced(scratch), lent(begin_stream(generator, seed, 1 + position)):
                _initialize(module, self._owner)

    @property
    def _owner(self) -> PreTrainedModel:
        """The library's model, or the part of it, that knows how its layers begin."""
        from transformers import PreTrainedModel

        owner: PreTrainedModel = self.library
        module: nn.Module = self.library
        for name in self.layers.path.split("."):
            module = getattr(module, name)
            if isinstance(module, PreTrainedModel):
                owner = module
        return owner


def _place(layer: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Where a layer's module keeps one of its parameters: a dictionary and its key."""
    path, _, key = name.rpartition(".")
    return layer.get_submodule(path)._parameters, key


def _initialize(module: nn.Module, owner: PreTrainedModel, but: nn.Module | None = None) -> None:
    """The library's own initial values of a module and all that is in it, but for one part."""
    from transformers import PreTrainedModel

    for child in module.children():
        if child is not but:
            _initialize(child, child if isinstance(child, PreTrainedModel) else owner, but)
    owner._init_weights(module)  # type: ignore[no-untyped-call]
