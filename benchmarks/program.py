"""What the programs of all benchmarks share: what is wrong with their input is said in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from tiegym.env import TieEnv
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import InputError, as_input_errors, input_errors

T = TypeVar("T")


def run_benchmark(
    options: type[T],
    module: str,
    description: str | None,
    run: Callable[[T], None],
    args: Sequence[str] | None = None,
) -> None:
    """Runs a benchmark from its command line.

    Args:
        options: Its dataclass.
        module: Its full name.
        description: What its help begins with.
        run: The benchmark.
        args: The command line; None takes the process's own.

    Raises:
        SystemExit: With 2 if the input is wrong.
    """
    with input_errors(InputError):
        run(read_command_line(options, module, description, args=args))


def environment(**arguments: Any) -> TieEnv:
    """A TieEnv that is measured.

    Raises:
        InputError: If an argument is wrong, or its text can't be read.
    """
    with as_input_errors():
        return TieEnv(**arguments)
