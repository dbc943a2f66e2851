"""Ctrl-C and SIGTERM as a request that a program grants where it can go on from."""

from __future__ import annotations

import signal
import threading
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

    Signals are the main thread's business: elsewhere this does nothing.
    """

    def __init__(self) -> None:
        """Takes over the signals, until `close`."""
        self.received: int | None = None
        """The number of the one that came."""
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._remember) for s in SIGNALS}

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self.close()

    def close(self) -> None:
        """Gives the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None is one that C code set
        self._before = {}
