"""A store of weights of one kind that many transformers hold, and AdamW on it.

Each row is all weights of one owner: the block of a layer of one member, say. A layer that is tied
has no row. Rows that train come first, and only they have gradients and moments.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

Owner: TypeAlias = tuple[int, int]
"""A member, and which of its layers or units; 0 for what a member has once."""


class Rows:
    """Weights, gradients and AdamW's state of one kind, a row an owner.

    Args:
        sizes: Of the weights of an owner, by name.
        device: Where they live.
        dtype: Of all of them.
    """

    def __init__(
        self, sizes: Mapping[str, tuple[int, ...]], device: torch.device, dtype: torch.dtype
    ) -> None:
        """Begins without owners."""
        self.sizes = dict(sizes)
        ends = list(itertools.accumulate(math.prod(size) for size in sizes.values()))
        self.spans = dict(zip(sizes, itertools.pairwise([0, *ends]), strict=True))
        self.owners: list[Owner] = []
        self.row: dict[Owner, int] = {}
        """Of each owner."""
        self.weights = torch.empty((0, ends[-1]), device=device, dtype=dtype)
        self.gradients, self.exp_avg, self.exp_avg_sq = (self.weights.clone() for _ in range(3))
        self.steps = np.zeros(0, dtype=np.int64)
        """AdamW's steps of each row that trains."""

    @property
    def n_trained(self) -> int:
        """Rows that train."""
        return len(self.steps)

    def change(
        self, trained: Sequence[Owner], frozen: Sequence[Owner], sources: Mapping[Owner, Owner]
    ) -> None:
        """Gives rows to these owners, and to nobody else.

        Args:
            trained: Who trains its weights.
            frozen: Who has weights that train no more.
            sources: For owners that go on with the weights and moments of a row that there is, its
                owner so far. The weights of all others are to be set, and their moments are 0, as
                are those of who goes on from frozen weights.
        """
        owners = [*trained, *frozen]
        same = owners == self.owners and len(trained) == self.n_trained
        if same and all(sources.get(owner) == owner for owner in owners):
            return
        old = [self.row[sources[owner]] if owner in sources else -1 for owner in owners]
        moments = [row if row < self.n_trained else -1 for row in old[: len(trained)]]
        steps = [0 if row < 0 else self.steps[row] for row in moments]
        self.steps = np.array(steps, dtype=np.int64)
        self.weights = _taken(self.weights, old)
        self.gradients = self.gradients.new_zeros((len(trained), self.weights.shape[1]))
        self.exp_avg, self.exp_avg_sq = (
            _taken(t, moments) for t in (self.exp_avg, self.exp_avg_sq)
        )
        self.owners, self.row = owners, {owner: row for row, owner in enumerate(owners)}

    def begin_anew(self, owner: Owner) -> None:
        """Sets the moments of an owner to 0, as before the first step."""
        row = self.row[owner]
        if row < self.n_trained:
            for tensor in (self.gradients, self.exp_avg, self.exp_avg_sq):
                tensor[row].zero_()
            self.steps[row] = 0

    def of(self, owner: Owner, tensor: Tensor) -> dict[str, Tensor]:
        """Views of an owner's row of one of the tensors here, by name."""
        row = tensor[self.row[owner]]
        return {name: row[a:b].view(self.sizes[name]) for name, (a, b) in self.spans.items()}

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows (M, numbers), by name: (M, ...) each."""
        return {
            name: part.view(len(rows), *self.sizes[name])
            for name, part in self.columns(rows).items()
        }

    def columns(self, rows: Tensor) -> dict[str, Tensor]:
        """The part of the numbers of each name, a view."""
        return {name: rows[:, a:b] for name, (a, b) in self.spans.items()}

    def row_bytes(self, trains: bool) -> int:
        """Bytes of a row: of its weights, and if it trains of gradients, moments and step count."""
        weights = self.weights.shape[1] * self.weights.element_size()
        return 4 * weights + STEP_BYTES if trains else weights

    def state_bytes(self) -> dict[int, int]:
        """Bytes that the rows of each member hold."""
        found: dict[int, int] = {}
        for k, (member, _) in enumerate(self.owners):
            found[member] = found.get(member, 0) + self.row_bytes(k < self.n_trained)
        return found


STEP_BYTES = 8
"""Of the step count of a row, a 64-bit integer."""


def _taken(tensor: Tensor, rows: Sequence[int]) -> Tensor:
    """These rows of a tensor, a copy; zeros for -1."""
    missing = [k for k, row in enumerate(rows) if row < 0]
    if not len(tensor):
        return tensor.new_zeros((len(rows), *tensor.shape[1:]))
    index = torch.tensor([max(row, 0) for row in rows], dtype=torch.int64, device=tensor.device)
    taken = tensor.index_select(0, index)
    if missing:
        taken[missing] = 0
    return taken


def row_norms(stores: Iterable[Rows], n_members: int) -> Tensor:
    """The norm of all gradients of each member, float32 or wider (members,)."""
    total: Tensor | None = None
    for rows in stores:
        gradients = rows.gradients
        wide = torch.promote_types(gradients.dtype, torch.float32)
        if total is None:
            total = torch.zeros(n_members, dtype=wide, device=gradients.device)
        squares = torch.linalg.vector_norm(gradients, dim=1, dtype=wide).square()
        total.index_add_(0, _members(rows), squares)
    assert total is not None
    return total.sqrt()


def clip(stores: Sequence[Rows], n_members: int, most: float) -> None:
    """Clips each member's gradient to a norm, as `torch.nn.utils.clip_grad_norm_` does one's."""
    norms = row_norms(stores, n_members)
    factor = (most / (norms + 1e-6)).clamp(max=1)
    for rows in stores:
        rows.gradients.mul_(factor[_members(rows)].to(rows.gradients.dtype).unsqueeze(1))


def _members(rows: Rows) -> Tensor:
    members = [member for member, _ in rows.owners[: rows.n_trained]]
    return torch.tensor(members, dtype=torch.int64, device=rows.weights.device)


def step(stores: Iterable[Rows], rates: Mapping[int, float], weight_decay: float) -> None:
    """One step of PyTorch's AdamW with its default betas, of some members.

    Rows side by side that have taken as many steps are stepped as one tensor.

    Args:
        stores: All that they have.
        rates: The learning rate of each member that steps.
        weight_decay: Decoupled, as of AdamW.
    """
    by_rate: dict[float, list[list[Tensor]]] = {}
    for rows in stores:
        fused = rows.weights.device.type in ("cpu", "cuda")
        tensors = (rows.weights, rows.gradients, rows.exp_avg, rows.exp_avg_sq)
        for (rate, taken), run in _runs(rows, rates):
            place = rows.weights.device if rows.weights.is_cuda else None
            steps = torch.tensor(float(taken), dtype=torch.float32, device=place)
            pieces = [tensor[run.start : run.stop] for tensor in tensors]
            by_rate.setdefault(rate, []).append([*pieces, steps])
            rows.steps[run.start : run.stop] += 1
    for rate, runs in by_rate.items():
        weights, gradients, exp_avgs, exp_avg_sqs, steps_taken = (
            [run[k] for run in runs] for k in range(5)
        )
        adamw(
            weights,
            gradients,
            exp_avgs,
            exp_avg_sqs,
            [],
            steps_taken,
            fused=fused,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=rate,
            weight_decay=weight_decay,
            eps=1e-8,
            maximize=False,
        )


def _runs(rows: Rows, rates: Mapping[int, float]) -> Iterator[tuple[tuple[float, int], range]]:
    """Rows side by side with the same rate and as many steps, as long as they train now."""
    trained = list(enumerate(zip(rows.owners, rows.steps.tolist(), strict=False)))

    def kind(entry: tuple[int, tuple[Owner, int]]) -> tuple[float, int] | None:
        _, ((member, _), steps) = entry
        return (rates[member], steps) if member in rates else None

    for key, group in itertools.groupby(trained, kind):
        if key is not None:
            numbers = [k for k, _ in group]
            yield key, range(numbers[0], numbers[-1] + 1)
