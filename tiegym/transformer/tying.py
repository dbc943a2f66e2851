"""Changing a tie vector during training: weights, gradients and optimiser state.

- Layer i gets tied: its weights, gradients and moments cease to exist.
- Layer i becomes independent: it gets a clone of its old root's weights and moments.
- Several changes at once are made against the weights before them.
- Layer i is frozen: it keeps weights of its own, or gets a clone of its old root's; they have
  neither gradients nor moments. When it trains again, its moments begin anew.
- What is private to a layer stays as it is, but for soft changes: `tiegym.transformer.soft_ties`.

With two parts to a layer (`tiegym.parts`) all this is said of units, each a part of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tiegym import parts
from tiegym import ties as tie_vectors
from tiegym.ties import Ties
from tiegym.transformer import soft_ties
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.private import private_sizes
from tiegym.transformer.tied_model import TiedModel, Weights


def retie(
    model: TiedModel,
    optimizer: torch.optim.Optimizer,
    ties: Ties,
    frozen: Sequence[bool] | None = None,
    soft: bool = False,
) -> None:
    """Puts a tie vector into force, in a model and the optimiser that trains its parameters.

    A layer that becomes independent clones the weights and moments of the root that it had. Where
    that root gets tied itself, the first layer that leaves it takes its tensors over instead. What
    no layer owns any more is freed before anything is cloned: while ties change, too, there are
    never more blocks than independent layers. Layers that stay as they are keep their tensors.
    The optimiser's parameters stay in the order of `model.parameters()`, so that a run's sums
    don't depend on its history.

    Args:
        model: The transformer.
        optimizer: One with a single parameter group that holds all parameters of the model.
        ties: The new tie vector, shape (L,), or those of two parts, (2L,).
        frozen: Which units train no more, (L,) or (2L,); None is none.
        soft: Whether what a change takes from a layer goes into its low-rank terms, and what is in
            these into weights that it gets; see `tiegym.transformer.soft_ties`.

    Raises:
        ValueError: If `ties` is no tie vector of this model's length, or a tied unit is frozen.
    """
    n_layer = model.n_layer
    ties, units, still = _read(model, ties, frozen)
    change = soft_ties.plan(_with_terms(model), ties) if soft else None
    old_roots = model.roots
    heir: dict[int, int] = {}  # for each old root, the first independent unit with its weights
    for unit in units:
        heir.setdefault(old_roots[unit], unit)
    kept = {unit: model.independent(root) for root, unit in heir.items()}
    before_clones = ties.copy()
    before_clones[units] = [heir[old_roots[unit]] % n_layer for unit in units]
    # Said of the heirs, too: there may be no room for the clones.
    were_frozen = [unit for root, unit in heir.items() if model.frozen[root]]
    _put(model, optimizer, before_clones, kept, were_frozen)
    blocks: dict[int, Weights] = {}
    for unit in units:
        source = kept[heir[old_roots[unit]]]
        blocks[unit] = source if unit in kept else model.new_block(unit).copy_(source)
        if unit not in kept and unit not in still:
            _clone_moments(optimizer, source, blocks[unit])
    _put(model, optimizer, ties, blocks, still)
    if change is not None:
        soft_ties.carry_out(change, _with_terms(model), optimizer)


def _with_terms(model: TiedModel) -> TiedTransformer:
    assert isinstance(model, TiedTransformer), "soft changes are those of our own transformer"
    return model


def _read(
    model: TiedModel, ties: Ties, frozen: Sequence[bool] | None
) -> tuple[Ties, list[int], list[int]]:
    """A copy of the ties, the units that own weights, and those of them that are frozen."""
    ties = parts.validate(ties, model.n_layer, model.n_parts)
    units = tie_vectors.independent_layers(parts.forest(ties, model.n_layer))
    still = [unit for unit, flag in enumerate(frozen if frozen is not None else ()) if flag]
    if not set(still) <= set(units):
        raise ValueError(
            f"frozen={still} names units that are tied (ties={ties.tolist()}): only what has "
            "weights of its own can be frozen"
        )
    return ties, units, still


def reuse_blocks(
    model: TiedModel,
    optimizer: torch.optim.Optimizer,
    ties: Ties,
    frozen: Sequence[bool] | None = None,
) -> None:
    """Puts a tie vector into force where all weights and moments are about to be overwritten.

    Blocks that exist are handed out again, with whatever values they hold; none is cloned.

    Args:
        model: The transformer.
        optimizer: As in `retie`.
        ties: The new ties, as in `retie`.
        frozen: As in `retie`.

    Raises:
        ValueError: As in `retie`.
    """
    ties, units, still = _read(model, ties, frozen)
    old = {unit: model.independent(unit) for unit in set(model.roots)}
    blocks = {unit: old.pop(unit) for unit in units if unit in old}
    for unit in units:
        if unit not in blocks:
            part = unit // model.n_layer
            spare = [other for other in old if other // model.n_layer == part]
            blocks[unit] = old.pop(spare[-1]) if spare else model.new_block(unit)
    _put(model, optimizer, ties, {unit: blocks[unit] for unit in units}, still)


def _put(
    model: TiedModel,
    optimizer: torch.optim.Optimizer,
    ties: Ties,
    blocks: dict[int, Weights],
    frozen: Sequence[int] | None = None,
) -> None:
    """Gives the optimiser the parameters that train, and drops what belonged to any other."""
    model.set_blocks(ties, blocks, frozen)
    (group,) = optimizer.param_groups
    group["params"] = [p for p in model.parameters() if p.requires_grad]
    exist = set(group["params"])
    for parameter in [p for p in optimizer.state if p not in exist]:
        del optimizer.state[parameter]
    for unit in frozen or ():
        for parameter in blocks[unit].parameters():
            parameter.grad = None


def _clone_moments(optimizer: torch.optim.Optimizer, source: Weights, clone: Weights) -> None:
    for old, new in zip(source.parameters(), clone.parameters(), strict=True):
        if old in optimizer.state:  # empty before the first iteration
            optimizer.state[new] = {
                name: value.clone() if isinstance(value, Tensor) else value
                for name, value in optimizer.state[old].items()
            }


def model_state_bytes(model: TiedModel, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of weights, gradients and optimiser state that exist now."""
    tensors: list[Any] = []
    for p in model.parameters():
        tensors += [p, p.grad]
    for state in optimizer.state.values():
        tensors += state.values()
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


def expected_state_bytes(
    shape: Shape, n_independent: int, dtype: torch.dtype, n_mlp: int | None = None
) -> int:
    """Bytes that `model_state_bytes` finds with AdamW once an iteration has run; none is frozen.

    Four numbers a parameter (weight, gradient, two moments) in the weights' dtype, and AdamW's
    float32 step count a tensor. `n_independent` and `n_mlp` are as in `Shape.params`.
    """
    n_mlp = n_independent if n_mlp is None else n_mlp
    private = shape.private_parts
    tensors = 4 + shape.n_layer * len(private_sizes(private, shape.n_embd))
    for part, n in (("attention", n_independent), ("mlp", n_mlp)):
        tensors += n * len(shape.part_sizes(part))
    numbers = 4 * shape.params(n_independent, n_mlp)
    return numbers * dtype.itemsize + tensors * torch.float32.itemsize
