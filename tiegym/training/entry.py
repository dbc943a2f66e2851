"""What every public method of an environment that computes with PyTorch goes through."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tiegym.training.out_of_memory import explains_out_of_memory
from tiegym.transformer.fork_safety import fork_safe
from tiegym.transformer.isolation import isolated

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def entry(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a method safe after a fork, free of its caller's contexts, and clear about memory."""
    return explains_out_of_memory(fork_safe(isolated(method)))
