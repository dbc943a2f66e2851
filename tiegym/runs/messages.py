"""Lines for the user, which are printed whatever became of the terminal and of the text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tiegym.runs.printable import printable


def say(text: str, stream: TextIO | None) -> bool:
    """Prints a line; that nobody can read it ends no program.

    A daemon has no stderr, the reader of a pipe may have gone (`| head`), and the disk of a log
    may be full. Names of files need not be text that the stream can write, and what comes from a
    file may hold escape sequences, with which it could write over what a terminal shows: such
    characters are printed as Python writes them.

    Args:
        text: The line.
        stream: `sys.stdout` or `sys.stderr` as it is now; None is one that was closed.

    Returns:
        Whether it could be printed.
    """
    lines = [printable(line) for line in text.split("\n")]
    return write("\n".join(lines) + "\n", stream)


def complain(message: object) -> bool:
    """Prints a message on stderr, as one line whatever is in it; see `say`."""
    return say(printable(message), sys.stderr)


def write(text: str, stream: TextIO | None) -> bool:
    """Writes text as it stands, colours included; that nobody can read it ends no program.

    Args:
        text: With its line ends; what a file or a user brought into it is `printable` by now.
        stream: As in `say`.

    Returns:
        Whether it could be written.
    """
    if stream is None:
        return False
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except (OSError, ValueError):  # ValueError: the stream is closed
        _silence(stream)
        return False
    return True


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """Ends the program without a word when the reader of its output has gone (`| head`).

    Raises:
        SystemExit: With 0, if so.
    """
    try:
        try:
            yield
        finally:
            if sys.stdout is not None and not sys.stdout.closed:
                sys.stdout.flush()  # at the exit it would be too late to catch anything
    except BrokenPipeError:
        _silence(sys.stdout)
        sys.exit(0)


def _silence(stream: TextIO) -> None:
    """Lets what the stream still holds go nowhere: Python complains at its exit otherwise."""
    if stream not in (sys.stdout, sys.stderr):
        return
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # it stands for no file
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
