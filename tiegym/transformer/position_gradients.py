"""Gradients at single positions that share weights: how far they agree, and what a tie would cost.

Autograd adds up the gradients of all positions that use a weight, and computes none where it is a
constant. So in one iteration each position gets an alias of the weights that it uses, and a hook
copies the gradient of that. Where the weights are constants, the alias of a position that is
watched is a leaf of its own: its gradient reaches nothing else. What training does stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tiegym import parts
from tiegym import ties as tie_vectors
from tiegym.transformer.isolation import isolated
from tiegym.transformer.layer_stats import sampled
from tiegym.transformer.tied_model import TiedModel


@dataclass
class PositionGradients:
    """The gradients at some positions, of all backward passes in `watching`, added up.

    Attributes:
        of_groups: The units of which a sample of each matrix is kept, for `agreement`.
        of_cursor: The units whose gradients are summed, whole, for `taylor`.
        samples: By unit, then by the matrix' name.
        whole: By the weight's name.
    """

    of_groups: frozenset[int] = frozenset()
    of_cursor: frozenset[int] = frozenset()
    samples: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    whole: dict[str, Tensor] = field(default_factory=dict)

    def kept(self) -> list[Tensor]:
        """All gradients that were kept, in the same order wherever the same was watched."""
        each = [self.whole, *(self.samples[unit] for unit in sorted(self.samples))]
        return [gradients[name] for gradients in each for name in sorted(gradients)]

    def alias(self, unit: int, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """What a unit uses instead of its weights: the same values; see `TiedModel.watch`."""
        aliases = {}
        for name, weight in weights.items():
            if weight.requires_grad:
                # Of every position, so that a compiled block sees one kind of weight.
                alias = weight.view_as(weight)
            elif unit in self.of_cursor:
                alias = weight.detach().requires_grad_()
            else:
                alias = weight
            for hook in self._hooks(unit, name, weight.ndim):
                alias.register_hook(hook)  # type: ignore[no-untyped-call]
            aliases[name] = alias
        return aliases

    def _hooks(self, unit: int, name: str, ndim: int) -> Iterator[Callable[[Tensor], None]]:
        if unit in self.of_groups and ndim >= 2:
            yield _adds_to(self.samples.setdefault(unit, {}), name, sampled)
        if unit in self.of_cursor:
            yield _adds_to(self.whole, name)


def _adds_to(
    kept: dict[str, Tensor], name: str, what: Callable[[Tensor], Tensor] = torch.detach
) -> Callable[[Tensor], None]:
    """A hook that adds a gradient, or a part of it, to what is kept under a name."""

    def hook(gradient: Tensor) -> None:
        # A copy: clipping scales a gradient in place that may lie in the same memory.
        part = what(gradient).detach().clone()
        kept[name] = kept[name].add_(part) if name in kept else part

    return hook


def positions_for(
    features: Sequence[str], model: TiedModel, cursor: int
) -> PositionGradients | None:
    """What has to be watched for some features; None where nothing has to be.

    Args:
        features: Their names.
        model: With the ties of the iterations that will be watched.
        cursor: The unit that is decided after them.
    """
    if not {"agreement", "taylor"} & set(features):
        return None
    units, roots, frozen = range(len(model.roots)), model.roots, model.frozen
    of_groups = of_cursor = frozenset[int]()
    if "agreement" in features:
        of_groups = frozenset(
            u for u in units if roots.count(roots[u]) > 1 and not frozen[roots[u]]
        )
    if "taylor" in features:
        # Whose root the cursor's unit would be if it were independent: what goes where it goes.
        forest = parts.forest(model.ties, model.n_layer)
        forest[cursor] = cursor
        leaders = tie_vectors.roots(forest)
        of_cursor = frozenset(u for u in units if leaders[u] == cursor)
    return PositionGradients(of_groups, of_cursor)


@contextmanager
def watching(model: TiedModel, gradients: PositionGradients | None) -> Iterator[None]:
    """A context in which backward passes leave gradients of positions; None watches nothing."""
    model.watch = None if gradients is None else gradients.alias
    try:
        yield
    finally:
        model.watch = None


@isolated
@torch.no_grad()
def position_figures(
    model: TiedModel, gradients: PositionGradients | None, cursor: int
) -> dict[str, Tensor]:
    """Those of `tiegym.features.POSITION_FEATURES` that were watched for, float32 (P L,) each.

    Args:
        model: With the ties that it had when the gradients were watched.
        gradients: What was watched; None gives no figures.
        cursor: As in `positions_for`.
    """
    if gradients is None:
        return {}
    figures = {"agreement": agreement(model, gradients)}
    if gradients.of_cursor:
        figures["taylor"] = torch.tanh(10 * first_order_changes(model, gradients, cursor))
    return figures


def agreement(model: TiedModel, gradients: PositionGradients) -> Tensor:
    """Cosine similarity of each unit's gradient with the sum over its group, float32 (P L,)."""
    result = torch.ones(len(model.roots), dtype=torch.float32, device=model.device)
    groups: dict[int, list[int]] = {}
    for unit in sorted(gradients.samples):
        groups.setdefault(model.roots[unit], []).append(unit)
    for units in groups.values():
        kept = [gradients.samples[unit] for unit in units]
        each = torch.stack([torch.cat([s[name] for name in kept[0]]) for s in kept]).float()
        result[units] = torch.cosine_similarity(each, each.sum(dim=0, keepdim=True), dim=1)
    return result


def first_order_changes(model: TiedModel, gradients: PositionGradients, cursor: int) -> Tensor:
    """The first-order change of the loss in nats by tying a unit to each other, float32 (P L,).

    Args:
        model: The differences are of its weights as they are now.
        gradients: With those of the cursor's unit and all that follow it.
        cursor: The unit.
    """
    result = torch.zeros(len(model.roots), dtype=torch.float32, device=model.device)
    part, layer = divmod(cursor, model.n_layer)
    mine = model.used_weights(model.roots[cursor])
    targets = range(part * model.n_layer, part * model.n_layer + layer)
    by_root: dict[int, Tensor] = {model.roots[cursor]: result.new_zeros(())}
    if not gradients.whole:  # neither the unit nor one that follows it ran: see `depths`
        return result
    for target in targets:
        root = model.roots[target]
        if root not in by_root:
            its = model.used_weights(root)
            by_root[root] = torch.stack(
                [
                    (gradient.float() * (its[name].float() - mine[name].float())).sum()
                    for name, gradient in gradients.whole.items()
                ]
            ).sum()
        result[target] = by_root[root]
    return result
