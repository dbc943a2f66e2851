"""The command `tiegym`: what is done with runs that are there.

A subcommand is a function: its arguments are the command line, its docstring the help. Programs
that make runs are in agents/ and baselines/ of the checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tyro


@contextmanager
def input_errors() -> Iterator[None]:
    """Turns what is wrong with the input into one line on stderr and exit status 2.

    It belongs around what reads the input, and nothing else: a mistake of ours keeps its traceback.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        print(f"tiegym: {error}", file=sys.stderr)
        sys.exit(2)


def report(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("report.html"),
) -> None:
    """Write one self-contained HTML page that compares runs.

    Args:
        runs: Run folders, or folders that hold run folders.
        out: The page; an older one is replaced.
    """
    from tiegym.report import write_report
    from tiegym.report_runs import find_runs

    with input_errors():
        found = find_runs(runs)
        if not out.parent.is_dir():
            raise FileNotFoundError(f"--out {out}: there is no folder {out.parent}")
    write_report(found, out)
    print(f"report: {out}")


COMMANDS: dict[str, Callable[..., Any]] = {"report": report}


def main(args: Sequence[str] | None = None) -> None:
    """Runs a subcommand.

    Args:
        args: The command line; None takes the process's own.
    """
    tyro.extras.subcommand_cli_from_dict(
        COMMANDS, prog="tiegym", description="What is done with runs that are there.", args=args
    )


if __name__ == "__main__":
    main()
