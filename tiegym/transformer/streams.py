"""Streams of random numbers that are a run's own.

One can be lent to PyTorch's global generator for a while: PyTorch's fused kernels and the models of
the library `transformers` draw from the global generator of their device and take no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

_turn = threading.Lock()


def begin_stream(generator: torch.Generator, *numbers: int) -> torch.Generator:
    """Puts a generator at the beginning of the stream that some numbers name; returns it."""
    # On a CPU only the lower 32 bits of a generator's seed count: they must be mixed.
    generator.manual_seed(int(np.random.default_rng(numbers).integers(2**63)))
    return generator


@contextmanager
def lent(stream: torch.Generator) -> Iterator[None]:
    """Lets the global generator of a stream's device go on with the stream within the block.

    The stream is then where the block left it, and the global generator where it was. Runs in
    several threads take turns; what else draws from the global generator meanwhile is not kept out.
    """
    get, put = _global_generator(stream.device)
    with _turn:
        outer = get()
        put(stream.get_state())
        try:
            yield
        finally:
            stream.set_state(get())
            put(outer)


@contextmanager
def numpy_kept() -> Iterator[None]:
    """Puts NumPy's global generator back where it was: BigBird seeds it in its forward pass."""
    before = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(before)


def _global_generator(
    device: torch.device,
) -> tuple[Callable[[], Tensor], Callable[[Tensor], None]]:
    """How to read and to set the state of the device's global generator."""
    if device.type == "cuda":
        return (
            lambda: torch.cuda.get_rng_state(device),
            lambda state: torch.cuda.set_rng_state(state, device),
        )
    if device.type == "mps":
        return torch.mps.get_rng_state, torch.mps.set_rng_state
    return torch.get_rng_state, torch.set_rng_state
