"""What --table on a command line changes: the environment that it begins with is the table's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tiegym.bench.recorded import config_to_train
from tiegym.config import TieConfig
from tiegym.data.sources import validate_corpus
from tiegym.runs.input_errors import InputError


def named_table(args: Sequence[str]) -> str | None:
    """The value of --table."""
    table: str | None = _given(args).table
    return table


def table_env(args: Sequence[str]) -> TieConfig:
    """The environment of the table that --table names; other options may still change it.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If it is damaged or has no tree, if its text has to be named, or if the command
            line has --paper, too.
    """
    given = _given(args)
    if "--paper" in args:
        raise InputError("--paper and --table bring two environments: give one of them")
    env = config_to_train(given.table)
    try:
        validate_corpus(given.corpus or env.corpus)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{error}. What is trained needs the text that table {given.table!r} was made on: give "
            "it with --env.corpus"
        ) from error
    return env


def _given(args: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--table")
    parser.add_argument("--env.corpus", dest="corpus")
    return parser.parse_known_args(args)[0]
