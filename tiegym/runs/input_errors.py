"""Errors that a user's input causes: programs say them in one line, without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tiegym.runs.messages import complain


class InputError(ValueError):
    """What was asked for can't be done; the message says what to do instead."""


class DamagedFile(InputError):
    """A file isn't as it was written, or never was what it should be; the message names it."""


OF_INPUT = (OSError, ValueError, ImportError)
"""What goes wrong with an input: a file, a value, or a package that isn't installed."""

_Kinds = type[Exception] | tuple[type[Exception], ...]


@contextmanager
def as_input_errors(kinds: _Kinds = OF_INPUT) -> Iterator[None]:
    """Raises what is wrong with the input as `InputError`, with the same message.

    Args:
        kinds: As of `input_errors`; the default belongs around what reads the input alone.

    Raises:
        InputError: Where one of them was raised.
    """
    try:
        yield
    except InputError:
        raise
    except kinds as error:
        raise InputError(str(error)) from error


@contextmanager
def input_errors(kinds: _Kinds = OF_INPUT) -> Iterator[None]:
    """Turns what is wrong with the input into one line on stderr and exit status 2.

    Args:
        kinds: Errors that the input causes. The default belongs around what reads the input, and
            nothing else: a mistake of ours keeps its traceback. Around what also does other work
            it is `InputError`.
    """
    try:
        yield
    except kinds as error:
        complain(f"error: {error}")
        sys.exit(2)


def at_least(options: object, least: int, *names: str) -> None:
    """Refuses options that are too small.

    Raises:
        InputError: If an option, or a value of one that can have several, is below `least`, or it
            has none.
    """
    for name in names:
        value = getattr(options, name)
        values = value if isinstance(value, tuple) else (value,)
        if not values or min(values) < least:
            raise InputError(f"{name}={value!r} must be at least {least}")
