"""What a transformer must offer so that its ties can change: the surface that `tying` works on.

There are two kinds: our own GPT (`tiegym.transformer.gpt`) and those of the library `transformers`
(`tiegym.transformer.pretrained`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor, nn

from tiegym import parts
from tiegym import ties as tie_vectors
from tiegym.ties import Ties


class Weights(Protocol):
    """The weights of one independent layer, or of one of its parts."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Always in the same order."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """By their names in the layer."""
        ...

    def get_parameter(self, target: str) -> nn.Parameter:
        """That of a name."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Lets them train or not."""
        ...

    def copy_(self, other: Any) -> Self:
        """Takes over the values of those of another layer, in place."""
        ...


class TiedModel(nn.Module):
    """A transformer of L layers that holds weights for its independent layers only.

    `parameters()` yields each weight that exists once; those of frozen layers have
    `requires_grad=False`.

    Args:
        n_layer: Layers L.
        ties: The tie vector, shape (L,), or with two parts a layer (2L,); see `tiegym.parts`.
        tie_grad: "owner" makes the weights constants at tied positions: no gradient is computed
            for them there, and autograd stores no input for one. "sum" adds up the gradients of
            all positions, as autograd does for a shared weight.
    """

    def __init__(self, n_layer: int, ties: Ties, tie_grad: Literal["owner", "sum"]) -> None:
        """Knows its ties; who inherits makes the weights."""
        super().__init__()
        self.n_layer = n_layer
        self.tie_grad = tie_grad
        n_parts = 2 if len(ties) == 2 * n_layer else 1
        self._ties = parts.validate(ties, n_layer, n_parts)
        self._roots: list[int] = parts.roots(self._ties, n_layer).tolist()
        self._frozen: frozenset[int] = frozenset()
        self.watch: Callable[[int, dict[str, Tensor]], dict[str, Tensor]] | None = None
        """Gets each layer, or unit, and the weights that it is about to use, constants or not, and
        returns what it uses instead; see `tiegym.transformer.position_gradients`."""

    @property
    def ties(self) -> Ties:
        """A copy of the ties, shape (L,) or (2L,)."""
        return self._ties.copy()

    @property
    def n_parts(self) -> int:
        """Parts of a layer that share weights apart from each other: 1 or 2."""
        return len(self._ties) // self.n_layer

    @property
    def roots(self) -> list[int]:
        """For each layer, or unit, the one whose weights it uses."""
        return list(self._roots)

    @property
    def frozen(self) -> list[bool]:
        """For each layer, or unit, whether it has weights that train no more."""
        return [unit in self._frozen for unit in range(len(self._ties))]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @abstractmethod
    def independent(self, unit: int) -> Weights:
        """The weights of an independent layer, or unit.

        Raises:
            KeyError: If it is tied: it has no weights of its own.
        """

    def used_weights(self, unit: int) -> dict[str, Tensor]:
        """What a forward pass uses of the weights of an independent layer, or unit, by name.

        The parameters themselves, but where they are compressed.
        """
        return dict(self.independent(unit).named_parameters())

    @abstractmethod
    def new_block(self, unit: int = 0) -> Weights:
        """Uninitialised weights for a layer, or unit, of the right sizes, device and dtype."""

    @abstractmethod
    def _place(self, blocks: dict[int, Any]) -> None:
        """Makes these blocks, of the units that own weights, the only ones there are."""

    def set_blocks(
        self, ties: Ties, blocks: dict[int, Any], frozen: Collection[int] | None = None
    ) -> None:
        """Puts ties in place together with the blocks of the units that own weights.

        Args:
            ties: Shape (L,) or (2L,).
            blocks: Of each unit that isn't tied, in order.
            frozen: Those of them that train no more; None leaves each block as it is.
        """
        own = tie_vectors.independent_layers(parts.forest(ties, self.n_layer))
        if list(blocks) != own:
            raise ValueError(f"blocks of layers {list(blocks)} given, but {own} own weights")
        self._ties = ties.copy()
        self._roots = parts.roots(ties, self.n_layer).tolist()
        self._place(blocks)
        if frozen is not None and (self._frozen or frozen):
            self._frozen = frozenset(frozen)
            for unit, weights in blocks.items():
                weights.requires_grad_(unit not in self._frozen)

    def _learns(self, unit: int) -> bool:
        """Whether the weights that a unit uses may get a gradient at its position."""
        root = self._roots[unit]
        return root not in self._frozen and (unit == root or self.tie_grad == "sum")
