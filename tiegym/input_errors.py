"""Errors that a user's input causes: programs say them in one line, without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """What was asked for can't be done; the message says what to do instead."""


@contextmanager
def input_errors() -> Iterator[None]:
    """Turns what is wrong with the input into one line on stderr and exit status 2.

    It belongs around what reads the input, and nothing else: a mistake of ours keeps its traceback.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
