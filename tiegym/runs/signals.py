"""Ctrl-C and SIGTERM as a request that a program grants where it can go on from."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal has ended a run between two steps; it can go on from there.

    Like its base it is no `Exception`, so that nothing takes it for a failure.

    Args:
        message: What to tell the user.
        number: Of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message, number)
        self.message = message
        self.number = number

    def __str__(self) -> str:
        return self.message


class StopSignals:
    """Remembers that a signal came; the second one does what it did before.

    Any number of these may be open at a time, and be closed in any order: a signal is for all of
    them. A process's handlers are the main thread's business; one that is opened in another thread
    hears of the signals while one of the main thread's is open.
    """

    def __init__(self) -> None:
        """Takes over the signals, until `close`."""
        self.received: int | None = None
        """The number of the one that came."""
        _open.add(self)
        _take_or_give_back()

    def close(self) -> None:
        """Gives the signals back, once no other is open; may be called again."""
        _open.discard(self)
        _take_or_give_back()


# Weakly: a run that is dropped without being closed asks for no signals any more.
_open: weakref.WeakSet[StopSignals] = weakref.WeakSet()
_before: dict[int, Any] = {}


def _take_or_give_back() -> None:
    """Makes the process's handlers those of the runs that are open, if this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return  # done by the next one that is opened or closed there, or by the signal itself
    for number in SIGNALS:
        if not _open:
            _give_back(number)
        elif signal.getsignal(number) != _remember:  # also if somebody has put theirs over ours
            _before[number] = signal.signal(number, _remember)


def _give_back(number: int) -> None:
    # What somebody else has put over ours meanwhile stays.
    if number in _before and signal.getsignal(number) == _remember:
        signal.signal(number, _before[number] or signal.SIG_DFL)  # None is one that C code set
    _before.pop(number, None)


def _remember(number: int, frame: FrameType | None) -> None:
    waiting = [signals for signals in _open if signals.received is None]
    for signals in waiting:
        signals.received = number
    if waiting:
        return
    # The second of its kind, or all runs were closed in other threads.
    before = _before.get(number)
    if callable(before):
        before(number, frame)
    elif before is not signal.SIG_IGN:
        _give_back(number)
        os.kill(os.getpid(), number)
