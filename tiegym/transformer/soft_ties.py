"""Soft tie changes: what a change would take from a layer goes into its low-rank terms B A.

The weights of layer i are W + B A, W those of its root.

- Layer i gets other shared weights, being tied or following a layer that is: its B A becomes the
  best of its rank in place of what it loses, W + B A before less W after, matrix by matrix.
- Layer i becomes independent: B A is added to its clone, and B set to zero. Its output stays.
- All of it is measured against the weights before the change, several at once included.

A layer that follows one which becomes independent gets other weights by that, too: those with B A
of the other in them. Biases, and norms that are shared, have no low-rank term, and are lost as in a
hard change. A term that changes begins with fresh moments, all zero: those of the old one are
figures of other directions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tiegym import ties as tie_vectors
from tiegym.ties import Ties
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.low_rank import LowRank, nearest
from tiegym.transformer.private import MATRICES


class Change(NamedTuple):
    """What is to become of the low-rank terms."""

    merged: list[int]
    """Layers whose terms go into their weights."""
    terms: dict[tuple[int, str], LowRank]
    """New terms by layer and matrix."""


@torch.no_grad()
def plan(model: TiedTransformer, ties: Ties) -> Change:
    """Finds the terms that a change of ties asks for; changes nothing.

    What a root will have is known from what there is, so that no block is copied for it: the
    temporary memory is that of a few matrices.

    Args:
        model: Before the change; each of its layers has low-rank terms.
        ties: The tie vector after it, (L,).
    """
    old, new = model.roots, tie_vectors.roots(ties).tolist()
    merged = [layer for layer, root in enumerate(new) if layer == root != old[layer]]

    def lost(layer: int, matrix: str) -> Tensor:
        root = new[layer]
        loss = _term(model, layer, matrix).product
        if root in merged:
            loss -= _term(model, root, matrix).product
        if old[layer] != old[root]:
            before, after = (model.independent(old[i]) for i in (layer, root))
            name = f"{matrix}_weight"
            loss += before.get_parameter(name).to(loss) - after.get_parameter(name).to(loss)
        return loss

    others = [layer for layer, root in enumerate(new) if root not in (layer, old[layer])]
    rank = model.shape.private_parts.rank
    terms = {(i, matrix): nearest(lost(i, matrix), rank) for i in others for matrix in MATRICES}
    return Change(merged, terms)


@torch.no_grad()
def carry_out(change: Change, model: TiedTransformer, optimizer: torch.optim.Optimizer) -> None:
    """Merges and replaces terms, once every layer has the weights of its new root.

    Args:
        change: What `plan` found.
        model: After the hard change.
        optimizer: Its moments of changed terms are set to zero.
    """
    for layer in change.merged:
        for matrix in MATRICES:
            weight = model.independent(layer).get_parameter(f"{matrix}_weight")
            term = _term(model, layer, matrix)
            weight.copy_(weight + term.product)
            _replace(term, LowRank(term.a, torch.zeros_like(term.b)), optimizer)
    for (layer, matrix), new in change.terms.items():
        _replace(_term(model, layer, matrix), new, optimizer)


def _term(model: TiedTransformer, layer: int, matrix: str) -> LowRank:
    part = model.private_part(layer)
    assert part is not None, "soft changes need low-rank terms"
    return part.term(matrix)


def _replace(term: LowRank, new: LowRank, optimizer: torch.optim.Optimizer) -> None:
    for mine, value in zip(term, new, strict=True):
        mine.copy_(value)
        for moment in optimizer.state.get(mine, {}).values():
            moment.zero_()
