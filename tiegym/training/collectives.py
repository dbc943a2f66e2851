"""What the ranks of PyTorch's process group send each other.

All of it is called on all ranks, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tiegym.transformer.tied_model import TiedModel

MESSAGE = 2**25
"""Bytes from which a message of gradients is large enough: each costs a while of its own."""

SomeTensor = TypeVar("SomeTensor", bound=Tensor)


class RankLost(RuntimeError):
    """Another rank has ended, or can't be reached."""


def from_first(value: Any) -> Any:
    """Rank 0's value, on every rank. It is pickled: ranks trust each other."""
    values = [value]
    with _reaching():
        dist.broadcast_object_list(values)
    return values[0]


def from_each(value: Any) -> list[Any]:
    """The values of all ranks, on each of them."""
    values: list[Any] = [None] * dist.get_world_size()
    with _reaching():
        dist.all_gather_object(values, value)
    return values


@torch.no_grad()
def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Gives tensors rank 0's values, in place."""
    with _reaching():
        for tensor in tensors:
            dist.broadcast(tensor.detach(), 0)


def tensors_from_first(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rank 0's tensors by name, on the CPU.

    Args:
        tensors: On other ranks such without content.
    """
    here = {
        n: torch.empty_like(t, device="cpu") if t.is_meta else t.cpu() for n, t in tensors.items()
    }
    copy_from_first(here.values())
    return here


def total(tensor: Tensor) -> Tensor:
    """The sum over all ranks, in place: the same bits on each of them."""
    with _reaching():
        dist.all_reduce(tensor)
    return tensor


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replaces tensors by their sums over all ranks, by one message for each dtype."""
    for same in _by_dtype(tensors):
        summed = total(torch.cat([t.flatten() for t in same]))
        for tensor, part in zip(same, torch.split(summed, [t.numel() for t in same]), strict=True):
            tensor.copy_(part.view_as(tensor))


def add_up_gradients(messages: Sequence[Sequence[nn.Parameter]]) -> int:
    """Replaces gradients by their sums over all ranks, and returns the bytes that were added up.

    A gradient is then a part of its message: no copy goes back.

    Args:
        messages: The weights whose gradients go together. All have one, of the same dtype.
    """
    n_bytes, sent = 0, []
    for weights in messages:
        flat = torch.cat([p.grad.flatten() for p in weights if p.grad is not None])
        parts = torch.split(flat, [p.numel() for p in weights])
        for p, part in zip(weights, parts, strict=True):
            p.grad = part.view_as(p)
        with _reaching():
            sent.append(dist.all_reduce(flat, async_op=True))
        n_bytes += flat.nbytes
    with _reaching():
        for work in sent:
            work.wait()
    return n_bytes


def messages_of(model: TiedModel, all_used: bool) -> list[list[nn.Parameter]]:
    """The weights whose gradients go in a message: those of whole layers, at least `MESSAGE` bytes.

    What is tied or frozen has no gradient, and is in no message.

    Args:
        model: After a backward pass.
        all_used: Whether each weight that trains is known to have a gradient. Else what has one on
            any rank gets one, of zeros, on all of them.
    """
    layers = [list(model.independent(unit).parameters()) for unit in sorted(set(model.roots))]
    inside = {p for weights in layers for p in weights}
    layers.append([p for p in model.parameters() if p not in inside])
    trained = [[p for p in weights if p.requires_grad] for weights in layers]
    if not all_used:
        trained = _with_gradients(trained)
    messages: list[list[nn.Parameter]] = [[]]
    for weights in trained:
        if sum(p.nbytes for p in messages[-1]) >= MESSAGE:
            messages.append([])
        messages[-1] += weights
    return [same for weights in messages for same in _by_dtype(weights)]


def _with_gradients(messages: list[list[nn.Parameter]]) -> list[list[nn.Parameter]]:
    every = [p for weights in messages for p in weights]
    have = torch.tensor([p.grad is not None for p in every], dtype=torch.int32)
    used = total(have.to(every[0].device)).tolist()
    for p, ranks in zip(every, used, strict=True):
        if ranks and p.grad is None:
            p.grad = torch.zeros_like(p)
    return [[p for p in weights if p.grad is not None] for weights in messages]


def _by_dtype(tensors: Iterable[SomeTensor]) -> list[list[SomeTensor]]:
    found: dict[torch.dtype, list[SomeTensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.dtype, []).append(tensor)
    return list(found.values())


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise RankLost(
            f"rank {dist.get_rank()} of {dist.get_world_size()} can't reach another rank, which "
            f"has ended or lost its network ({reason:.200})"
        ) from error
