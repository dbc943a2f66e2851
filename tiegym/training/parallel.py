"""One training run on several processes: what the ranks of PyTorch's process group tell each other.

Each rank has all weights, computes its rows of the same global batch, and gets the sum of all
gradients. No wrapper of PyTorch's does it: `DistributedDataParallel` leaves weights that are untied
later unsynchronised, and FSDP2 refuses ties across its units. Who says what is trained is either
every rank for itself, each with an environment, in step with the others; or rank 0 alone, whose
`Leader` the other ranks follow (`tiegym.runs.following`).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import socket
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tiegym.config import TieConfig
from tiegym.transformer.streams import begin_stream
from tiegym.transformer.tied_model import TiedModel

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


MAKE = "make"
"""What `Leader` says instead of a method's name where a trainer is made."""


class RankLost(RuntimeError):
    """Another rank has ended, or can't be reached."""


@dataclass(frozen=True)
class Ranks:
    """The processes that train one transformer.

    Attributes:
        rank: The number of this one.
        size: How many there are, at least 2.
        led: Whether rank 0 alone has an environment, and the others follow it.
        leader: What tells them what it does; on rank 0 alone.
    """

    rank: int
    size: int
    led: bool = False
    leader: Leader | None = None

    def share(self, n_rows: int) -> tuple[int, int]:
        """The first of this rank's rows of a batch, and the first behind them."""
        each = n_rows // self.size
        return self.rank * each, (self.rank + 1) * each


_led = False
_leader: Leader | None = None


def current_ranks() -> Ranks | None:
    """The ranks of the default process group; None without one, and in one of a single process."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    return Ranks(dist.get_rank(), dist.get_world_size(), _led, _leader)


@contextmanager
def led(leads: bool) -> Iterator[None]:
    """Within it, what is made on rank 0 is followed by the others.

    Args:
        leads: Whether this is rank 0.
    """
    global _led, _leader
    _led, _leader = True, Leader() if leads else None
    try:
        yield
    finally:
        _led, _leader = False, None


class Leader:
    """Tells the other ranks what rank 0 does with its trainers, which they number as it does."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._dropped: list[int] = []

    def make(self, trainer: object, config: TieConfig) -> int:
        """Has the others make a trainer, too; returns its number."""
        number = self.number(trainer)
        self.tell(number, MAKE, [config, torch.get_num_threads()], {}, None)
        return number

    def number(self, trainer: object) -> int:
        """The number of a new trainer; when it is dropped here, the others drop theirs."""
        number = next(self._numbers)
        weakref.finalize(trainer, self._dropped.append, number)
        return number

    def tell(self, *command: Any) -> None:
        """Has the others do something; see `tiegym.runs.following.follow`."""
        dropped, self._dropped[:] = self._dropped[:], []
        from_first((dropped, *command))


def told(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a trainer's method one that the other ranks do, too, where they follow this one."""

    @functools.wraps(method)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        trainer: Any = args[0]
        if trainer.ranks is not None and trainer.ranks.leader is not None:
            # They may have been changed through the optimiser itself.
            hyperparameters = trainer.hyperparameters if trainer.built else None
            sent = [_sizes(value) for value in args[1:]]
            trainer.ranks.leader.tell(
                trainer.number, method.__name__, sent, kwargs, hyperparameters
            )
        return method(*args, **kwargs)

    return call


def _sizes(value: Any) -> Any:
    """Tensors by name as tensors without content, for `tensors_from_first`; else the value."""
    if not isinstance(value, Mapping):
        return value
    return {name: tensor.to("meta") for name, tensor in value.items()}


# What is sent


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
    """The weights whose gradients go in a message: those of an independent layer, and the others.

    What is tied or frozen has no gradient, and costs no message.

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
    return [same for weights in trained for same in _by_dtype(weights)]


def _with_gradients(messages: list[list[nn.Parameter]]) -> list[list[nn.Parameter]]:
    every = [p for weights in messages for p in weights]
    have = torch.tensor([p.grad is not None for p in every], dtype=torch.int32)
    used = total(have.to(every[0].device)).tolist()
    for p, ranks in zip(every, used, strict=True):
        if ranks and p.grad is None:
            p.grad = torch.zeros_like(p)
    return [[p for p in weights if p.grad is not None] for weights in messages]


SomeTensor = TypeVar("SomeTensor", bound=Tensor)


def _by_dtype(tensors: Iterable[SomeTensor]) -> list[list[SomeTensor]]:
    found: dict[torch.dtype, list[SomeTensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.dtype, []).append(tensor)
    return list(found.values())


@contextmanager
def own_stream(stream: torch.Generator, rank: int) -> Iterator[None]:
    """Lets a generator that is the same on all ranks go on with a rank's own stream for a while.

    Afterwards it is one draw further than before, on each rank: a copy of rank 0's state is a copy
    of all.

    Args:
        stream: Of dropout, say.
        rank: Of this process.
    """
    before = stream.get_state()
    numbers = hashlib.sha256(before.numpy().tobytes()).digest()
    begin_stream(stream, *numbers, rank)
    try:
        yield
    finally:
        stream.set_state(before)
        torch.empty(1, device=stream.device).uniform_(generator=stream)


# Whether all ranks do the same


def check_ranks(ranks: Ranks, device: torch.device, configuration: Mapping[str, Any]) -> None:
    """Checks that ranks can train together: called by all of them.

    Args:
        ranks: The process group's.
        device: Of this rank.
        configuration: What has to be the same on all of them.

    Raises:
        ValueError: If the device can't be added up over, two ranks have the same GPU, or the
            configurations differ; the message names what does.
    """
    backends = dist.get_backend_config()  # such as "cpu:gloo,cuda:nccl"
    if device.type not in [part.partition(":")[0] for part in backends.split(",")]:
        raise ValueError(
            f"device={device.type!r} is none that the process group of {ranks.size} ranks can use "
            f"({backends}): choose another device or backend; GPUs take nccl, CPUs gloo"
        )
    place = None
    if device.type == "cuda":
        number = torch.cuda.current_device() if device.index is None else device.index
        place = f"GPU {number} of {socket.gethostname()}"
    places = from_each(place)
    if twice := [p for k, p in enumerate(places) if p is not None and p in places[:k]]:
        raise ValueError(
            f"{twice[0]} is that of two ranks, and each needs one of its own: start fewer ranks, "
            'choose device="cpu", or without torchrun call torch.cuda.set_device in each rank'
        )
    check_agreement(configuration)


def check_agreement(values: Mapping[str, Any]) -> None:
    """Checks that all ranks have the same values by name; called by all of them.

    Raises:
        ValueError: On each rank, if they haven't; the message names what differs, and where.
    """
    every = from_each(dict(values))
    for rank, theirs in enumerate(every):
        names = sorted(every[0].keys() | theirs.keys())
        if different := [n for n in names if every[0].get(n) != theirs.get(n)]:
            raise ValueError(
                f"ranks 0 and {rank} disagree about "
                + ", ".join(f"{n} ({every[0].get(n)!r} and {theirs.get(n)!r})" for n in different)
                + ": start all with the same"
            )


def check_batch(batch_size: int, grad_accum: int, ranks: Ranks) -> None:
    """Checks that each rank gets as many rows of a batch, and of each of its micro-batches.

    Raises:
        ValueError: If not.
    """
    if batch_size % (ranks.size * grad_accum):
        parts = f"{ranks.size} ranks"
        if grad_accum > 1:
            parts += f" and grad_accum={grad_accum} micro-batches"
        least = ranks.size * grad_accum
        raise ValueError(
            f"batch_size={batch_size} can't be divided among {parts}: it is the batch of all "
            f"ranks together; choose a multiple of {least}, such as "
            f"{-(-batch_size // least) * least}, or another number of ranks"
        )


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
