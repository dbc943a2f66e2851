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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from tiegym.config import TieConfig
from tiegym.training.collectives import from_each, from_first
from tiegym.training.workload import Batch, rows
from tiegym.transformer.streams import begin_stream

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

MAKE = "make"
"""What `Leader` says instead of a method's name where a trainer is made."""


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


_led = False
_leader: Leader | None = None


def current_ranks() -> Ranks | None:
    """The ranks of the default process group; None without one, and in one of a single process."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    return Ranks(dist.get_rank(), dist.get_world_size(), _led, _leader)


@contextmanager
def led_by(leader: Leader | None) -> Iterator[None]:
    """Within it, the other ranks follow what is made on rank 0.

    Args:
        leader: On rank 0, what tells them; None on the others.
    """
    global _led, _leader
    _led, _leader = True, leader
    try:
        yield
    finally:
        _led, _leader = False, None


class Leader:
    """Tells the other ranks what rank 0 does with its trainers, which they number as it does."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._dropped: list[int] = []
        self.in_step = True
        """Whether the others wait to be told something, and not for this one's part of a sum."""

    def number(self, trainer: object) -> int:
        """The number of a new trainer; when it is dropped here, the others drop theirs."""
        number = next(self._numbers)
        weakref.finalize(trainer, self._dropped.append, number)
        return number

    @contextmanager
    def tells(self, *command: Any) -> Iterator[None]:
        """Has the others do what the block does here; see `tiegym.runs.following.follow`."""
        dropped, self._dropped[:] = self._dropped[:], []
        from_first((dropped, *command))
        self.in_step = False
        yield
        self.in_step = True  # where the block fails, nobody knows how far the others are

    def end(self) -> None:
        """Ends the others; those that aren't in step end when they miss this one."""
        if self.in_step:
            from_first(None)


def told(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a trainer's method one that the other ranks do, too, where they follow this one."""

    @functools.wraps(method)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        trainer: Any = args[0]
        if trainer.ranks is None or trainer.ranks.leader is None:
            return method(*args, **kwargs)
        # They may have been changed through the optimiser itself.
        hyperparameters = trainer.hyperparameters if trainer.built else None
        sent = [_sizes(value) for value in args[1:]]
        name = method.__name__
        with trainer.ranks.leader.tells(trainer.number, name, sent, kwargs, hyperparameters):
            return method(*args, **kwargs)

    return call


@contextmanager
def made(trainer: Any, config: TieConfig) -> Iterator[None]:
    """Has the other ranks make a trainer, too, where they follow this one.

    Args:
        trainer: That is being made here; what is left to do, all do together, in the block.
        config: What it is made from.
    """
    if trainer.ranks.leader is None:
        yield
        return
    give_number(trainer)
    arguments = [config, torch.get_num_threads()]
    with trainer.ranks.leader.tells(trainer.number, MAKE, arguments, {}, None):
        yield


def give_number(trainer: Any) -> None:
    """Numbers a new trainer, where other ranks follow this one."""
    if trainer.ranks is not None and trainer.ranks.leader is not None:
        trainer.number = trainer.ranks.leader.number(trainer)


def _sizes(value: Any) -> Any:
    """Tensors by name as tensors without content, for `tensors_from_first`; else the value."""
    if not isinstance(value, Mapping):
        return value
    return {name: tensor.to("meta") for name, tensor in value.items()}


def share(batch: Batch, ranks: Ranks | None, count: Callable[[Tensor], int]) -> tuple[Batch, float]:
    """A rank's rows of a batch, and how many times as much the whole batch asks for as they do.

    The mean over the batch is the sum over all ranks of the mean over their rows, divided by that.

    Args:
        batch: Of all ranks.
        ranks: None is one process alone, which has all rows.
        count: How many things the mean is of, by the targets.
    """
    if ranks is None:
        return batch, 1
    each = len(batch[1]) // ranks.size
    mine = rows(batch, ranks.rank * each, (ranks.rank + 1) * each)
    return mine, count(batch[1]) / count(mine[1])


def own_stream(stream: torch.Generator, ranks: Ranks | None) -> AbstractContextManager[None]:
    """Lets ranks draw different things from a generator that is the same on all of them.

    Afterwards it is one draw further than before, on each rank: a copy of rank 0's state is a copy
    of all.

    Args:
        stream: Of dropout, say: of one stream, each rank would drop the same in its rows.
        ranks: None is one process alone, which draws from the stream itself.
    """
    return nullcontext() if ranks is None else _own_stream(stream, ranks.rank)


@contextmanager
def _own_stream(stream: torch.Generator, rank: int) -> Iterator[None]:
    before = stream.get_state()
    numbers = hashlib.sha256(before.numpy().tobytes()).digest()
    begin_stream(stream, *numbers, rank)
    try:
        yield
    finally:
        stream.set_state(before)
        torch.empty(1, dtype=torch.float32, device=stream.device).uniform_(generator=stream)


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


def check_in_step(tensors: Iterable[Tensor]) -> None:
    """Checks that all ranks have the same weights; called by all of them. Waits for the device.

    Raises:
        RuntimeError: On each rank, if they haven't: what was trained then is no one model.
    """
    sums = [repr(tensor.double().sum().item()) for tensor in tensors]  # NaN is like itself
    for rank, theirs in enumerate(every := from_each(sums)):
        if theirs != every[0]:
            raise RuntimeError(
                f"the weights of rank {rank} are no longer those of rank 0: its processor computes "
                "otherwise, or something changed them there alone. This run is worth nothing; give "
                "all ranks the same kind of device"
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
