"""PyTorch's CPU work in a forked process, such as a worker of Gymnasium's AsyncVectorEnv.

OpenMP's threads don't survive a fork: a parallel operation on the child's main thread waits for
them for ever if the parent ever used them. A thread that starts in the child has a team of its
own, as many as in the parent, so that the bits of a run stay the same. In a process that was not
forked nothing changes.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_NAME = "tiegym-after-fork"
_worker: ThreadPoolExecutor | None = None


def _after_fork() -> None:
    global _worker
    _worker = ThreadPoolExecutor(1, _NAME)  # starts its thread when it is first used


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)


def fork_safe(method: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a function that computes with PyTorch run on a thread of its own after a fork."""

    @functools.wraps(method)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if _worker is None or threading.current_thread().name.startswith(_NAME):
            return method(*args, **kwargs)
        return _worker.submit(method, *args, **kwargs).result()

    return call
