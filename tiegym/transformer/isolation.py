"""What the caller has switched on for its own computations stays outside of ours.

An agent's script may call an environment within `torch.no_grad`, `torch.inference_mode`,
`torch.autocast` or a default device. None of these is a wish about the transformer in training.
Default dtypes, which hold for the whole process, don't reach in either, since whatever makes a
tensor here names its dtype.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


@contextmanager
def isolation() -> Iterator[None]:
    """A context as if the caller had switched nothing on: gradients, no autocast, the CPU."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device_type in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        if torch._C._len_torch_function_stack():  # there may be a default device among the modes
            stack.enter_context(torch.device("cpu"))
        yield


def isolated(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a function that computes with PyTorch run in `isolation`."""

    @functools.wraps(method)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with isolation():
            return method(*args, **kwargs)

    return call
