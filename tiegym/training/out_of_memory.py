"""Out of memory, on a GPU or not, as one error that says what to lower."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class OutOfMemory(MemoryError):
    """A transformer that doesn't fit; the message names the arguments that decide its size."""


def explains_out_of_memory(
    method: Callable[Arguments, Result],
) -> Callable[Arguments, Result]:
    """Makes a method of an environment raise `OutOfMemory` where PyTorch finds no room."""

    @functools.wraps(method)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return method(*args, **kwargs)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
                raise
            config = args[0].config  # type: ignore[attr-defined]
            raise OutOfMemory(advice(config, error)) from error

    return call


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that there was no room; on a CPU PyTorch's has no type of its own."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def advice(config: Any, error: BaseException) -> str:
    """What to change in a `TieConfig`, with the values it has."""
    less = [f"batch_size={config.batch_size}", f"block_size={config.block_size}"]
    more = [f"eval_batches={config.eval_batches}", f"iters_per_step={config.iters_per_step}"]
    size = [f"n_embd={config.n_embd}", f"n_layer={config.n_layer}"]
    return (
        f"out of memory: lower {' or '.join(less)} (activations), {' or '.join(more)} "
        f"(batches that are there at a time), or {' or '.join(size)} (weights); "
        f"a higher grad_accum than {config.grad_accum}, checkpoint_activations=True and a small "
        "loss_chunk take less for the same result, and "
        f"dtype='bfloat16' halves the weights. PyTorch said: {_first_line(error)}"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
