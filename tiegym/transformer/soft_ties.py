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

from tiegym import parts
from tiegym.ties import Ties
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.low_rank import LowRank, nearest
from tiegym.transformer.private import MATRICES


class Change(NamedTuple):
    """What is to become of the low-rank terms; layers with two parts are counted by units."""

    merged: list[int]
    """Units whose terms go into their weights."""
    terms: dict[tuple[int, str], LowRank]
    """New terms by unit and matrix."""


@torch.no_grad()
def plan(model: TiedTransformer, ties: Ties) -> Change:
    """Finds the terms that a change of ties asks for; changes nothing.

    What a root will have is known from what there is, so that no block is copied for it: the
    temporary memory is that of a few matrices.

    Args:
        model: Before the change; each of its layers has low-rank terms.
        ties: The ties after it, (L,) or (2L,).
    """
    old, new = model.roots, parts.roots(ties, model.shape.n_layer).tolist()
    merged = [unit for unit, root in enumerate(new) if unit == root != old[unit]]

    def lost(unit: int, matrix: str) -> Tensor:
        root = new[unit]
        loss = _term(model, unit, matrix).product
        if root in merged:
            loss -= _term(model, root, matrix).product
        if old[unit] != old[root]:
            before, after = (_weight(model, old[i], matrix).to(loss) for i in (unit, root))
            loss += before - after
        return loss

    rank = model.shape.private_parts.rank
    terms = {
        (unit, matrix): nearest(lost(unit, matrix), rank)
        for unit, root in enumerate(new)
        if root not in (unit, old[unit])
        for matrix in _matrices(model, unit)
    }
    return Change(merged, terms)


@torch.no_grad()
def carry_out(change: Change, model: TiedTransformer, optimizer: torch.optim.Optimizer) -> None:
    """Merges and replaces terms, once every layer has the weights of its new root.

    Args:
        change: What `plan` found.
        model: After the hard change.
        optimizer: Its moments of changed terms are set to zero.
    """
    for unit in change.merged:
        for matrix in _matrices(model, unit):
            weight, term = _weight(model, unit, matrix), _term(model, unit, matrix)
            weight.copy_(weight + term.product)
            _replace(term, LowRank(term.a, torch.zeros_like(term.b)), optimizer)
    for (unit, matrix), new in change.terms.items():
        _replace(_term(model, unit, matrix), new, optimizer)


def _matrices(model: TiedTransformer, unit: int) -> tuple[str, ...]:
    """Those of a layer, or of the part of one that a unit is: two in attention, two in the MLP."""
    if model.n_parts == 1:
        return MATRICES
    return MATRICES[:2] if unit < model.shape.n_layer else MATRICES[2:]


def _weight(model: TiedTransformer, root: int, matrix: str) -> Tensor:
    return model.independent(root).get_parameter(f"{matrix}_weight")


def _term(model: TiedTransformer, unit: int, matrix: str) -> LowRank:
    part = model.private_part(unit % model.shape.n_layer)
    assert part is not None, "soft changes need low-rank terms"
    return part.term(matrix)


def _replace(term: LowRank, new: LowRank, optimizer: torch.optim.Optimizer) -> None:
    for mine, value in zip(term, new, strict=True):
        mine.copy_(value)
        for moment in optimizer.state.get(mine, {}).values():
            moment.zero_()
