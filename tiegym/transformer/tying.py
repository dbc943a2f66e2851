"""Changing a tie vector during training: weights, gradients and optimiser state.

- Layer i gets tied: its weights, gradients and moments cease to exist.
- Layer i becomes independent: it gets a clone of its old root's weights and moments.
- Several changes at once are made against the weights before them.
- What is private to a layer stays as it is, but for soft changes: `tiegym.transformer.soft_ties`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tiegym import ties as tie_vectors
from tiegym.ties import Ties
from tiegym.transformer import soft_ties
from tiegym.transformer.block import Block, Shape, block_sizes
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.private import private_sizes


def retie(
    model: TiedTransformer, optimizer: torch.optim.Optimizer, ties: Ties, soft: bool = False
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
        ties: The new tie vector, shape (L,).
        soft: Whether what a change takes from a layer goes into its low-rank terms, and what is in
            these into weights that it gets; see `tiegym.transformer.soft_ties`.

    Raises:
        ValueError: If `ties` is no tie vector of this model's length.
    """
    ties = tie_vectors.validate(ties, model.shape.n_layer)
    change = soft_ties.plan(model, ties) if soft else None
    layers, old_roots = tie_vectors.independent_layers(ties), model.roots
    heir: dict[int, int] = {}  # for each old root, the first independent layer with its weights
    for layer in layers:
        heir.setdefault(old_roots[layer], layer)
    kept = {layer: model.independent(root) for root, layer in heir.items()}
    before_clones = ties.copy()
    before_clones[layers] = [heir[old_roots[layer]] for layer in layers]
    _put(model, optimizer, before_clones, kept)
    blocks: dict[int, Block] = {}
    for layer in layers:
        source = kept[heir[old_roots[layer]]]
        blocks[layer] = source if layer in kept else model.new_block().copy_(source)
        if layer not in kept:
            _clone_moments(optimizer, source, blocks[layer])
    _put(model, optimizer, ties, blocks)
    if change is not None:
        soft_ties.carry_out(change, model, optimizer)


def reuse_blocks(model: TiedTransformer, optimizer: torch.optim.Optimizer, ties: Ties) -> None:
    """Puts a tie vector into force where all weights and moments are about to be overwritten.

    Blocks that exist are handed out again, with whatever values they hold; none is cloned.

    Args:
        model: The transformer.
        optimizer: As in `retie`.
        ties: The new tie vector, shape (L,).

    Raises:
        ValueError: If `ties` is no tie vector of this model's length.
    """
    ties = tie_vectors.validate(ties, model.shape.n_layer)
    layers = tie_vectors.independent_layers(ties)
    old = {layer: model.independent(layer) for layer in set(model.roots)}
    blocks = {layer: old.pop(layer) for layer in layers if layer in old}
    spare = list(old.values())
    for layer in layers:
        if layer not in blocks:
            blocks[layer] = spare.pop() if spare else model.new_block()
    _put(model, optimizer, ties, {layer: blocks[layer] for layer in layers})


def _put(
    model: TiedTransformer, optimizer: torch.optim.Optimizer, ties: Ties, blocks: dict[int, Block]
) -> None:
    model.set_blocks(ties, blocks)
    (group,) = optimizer.param_groups
    group["params"] = list(model.parameters())
    exist = set(group["params"])
    for parameter in [p for p in optimizer.state if p not in exist]:
        del optimizer.state[parameter]


def _clone_moments(optimizer: torch.optim.Optimizer, source: Block, clone: Block) -> None:
    for old, new in zip(source.parameters(), clone.parameters(), strict=True):
        if old in optimizer.state:  # empty before the first iteration
            optimizer.state[new] = {
                name: value.clone() if isinstance(value, Tensor) else value
                for name, value in optimizer.state[old].items()
            }


def model_state_bytes(model: TiedTransformer, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of weights, gradients and optimiser state that exist now."""
    tensors: list[Any] = []
    for p in model.parameters():
        tensors += [p, p.grad]
    for state in optimizer.state.values():
        tensors += state.values()
    return sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))


def expected_state_bytes(shape: Shape, n_independent: int, dtype: torch.dtype) -> int:
    """Bytes that `model_state_bytes` finds with AdamW once an iteration has run.

    Four numbers a parameter (weight, gradient, two moments) in the weights' dtype, and AdamW's
    float32 step count a tensor.
    """
    private = shape.private_parts
    tensors = 4 + n_independent * len(block_sizes(shape.n_embd, norms=not private.norms))
    tensors += shape.n_layer * len(private_sizes(private, shape.n_embd))
    return 4 * shape.params(n_independent) * dtype.itemsize + tensors * torch.float32.itemsize
