"""The options of a program: its command line, its documentation, and what a run records of them.

What a program does with them is in `tiegym.runs.program`.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar, get_args, get_type_hints

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from tiegym.config import PAPER, TieConfig
from tiegym.runs.commands import python_command, read_command_line
from tiegym.runs.folder import read_config
from tiegym.runs.input_errors import InputError

Options = TypeVar("Options", bound="RunOptions")


@dataclass(frozen=True)
class RunOptions:
    """The options that all programs have."""

    seed: int = 0
    """Fixes everything that is random: the transformer, its data, and the program's own draws."""
    total_steps: int | None = None
    """Environment steps; None is one episode."""
    runs_dir: Path = Path("runs")
    """Where run folders go."""
    name: str | None = None
    """Name of the run folder; None makes one from the program and the seed."""
    quiet: bool = False
    """Show no progress."""
    export: bool = False
    """Write the trained transformer into the run folder, as model.safetensors."""
    sample_tokens: int = 0
    """Tokens of text that the trained transformer writes at the end, printed and kept in the run
    folder as sample.txt; 0 is none."""
    render: bool = False
    """Print who uses whose weights after each step."""
    paper: bool = False
    """Start from the paper's values (TieEnvPaper-v0) instead of TieEnv-v0's."""
    resume: Path | None = None
    """Folder of a run that was cut off: goes on with it, with the options that it recorded."""
    checkpoint_every_steps: int | None = None
    """Environment steps between checkpoints, from which a run that is killed goes on."""
    checkpoint_every_minutes: float | None = 15.0
    """Minutes between checkpoints. One is written at Ctrl-C and SIGTERM, too."""
    env: TieConfig = field(default_factory=TieConfig)
    """The environment."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range.
        """
        # Stable-Baselines3 takes seeds of 32 bits.
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed} must be from 0 to 2**32 - 1")
        if self.total_steps is not None and self.total_steps < 1:
            raise ValueError(f"total_steps={self.total_steps} must be at least 1 environment step")
        if self.sample_tokens < 0:
            raise ValueError(f"sample_tokens={self.sample_tokens} must be 0 or more tokens")
        for name in ("checkpoint_every_steps", "checkpoint_every_minutes"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value} must be positive, or None for none by these")

    @classmethod
    def defaults(cls, args: Sequence[str], env: TieConfig | None = None) -> Self:
        """What a command line's options are unless it names them.

        Args:
            args: The command line: some options change the defaults of others.
            env: The environment; None takes `TieConfig`'s own values, or the paper's where the
                command line has --paper.
        """
        if env is None:
            env = TieConfig(**(PAPER if "--paper" in args else {}))
        return cls(env=env)

    @property
    def steps(self) -> int:
        """Environment steps of the whole run."""
        return self.env.steps_per_episode if self.total_steps is None else self.total_steps

    @property
    def all_steps(self) -> int:
        """Environment steps of the whole program: more where an agent learns beforehand."""
        return self.steps

    def source_record(self) -> dict[str, Any] | None:
        """What a record says of the finished run that this one begins with; None without one.

        A comparison makes a kept run anew if it is something else by now.

        Raises:
            InputError: If that run can't be begun with.
        """
        return None


def parse_options(
    options: type[Options], args: Sequence[str] | None = None, env: TieConfig | None = None
) -> Options:
    """Reads a program's command line; its help comes from the fields' docstrings.

    Args:
        options: The program's dataclass.
        args: The command line; None takes the process's own. With --resume, all else defaults to
            what the run recorded.
        env: What the arguments of the environment default to; see `RunOptions.defaults`.

    Raises:
        FileNotFoundError: If there is no run to resume.
        ValueError: If it is another program's, or its record is damaged.
    """
    args = sys.argv[1:] if args is None else args
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--resume", type=Path)
    folder = first.parse_known_args(args)[0].resume
    if folder is not None:
        default = recorded_options(options, folder)
    else:
        default = options.defaults(args, env)
    return read_command_line(
        options, module_name(options), options.__doc__, args=args, default=default
    )


def recorded_options(options: type[Options], folder: Path) -> Options:
    """The options that a run was started with, and that it is resumed.

    Raises:
        FileNotFoundError: If there is no run.
        ValueError: If it is another program's, or its record is damaged.
    """
    config = read_config(folder)
    module = module_name(options)
    theirs = config.get("module")
    if theirs != module:
        # Whatever a file says is no command: a stranger may have written it.
        mend = "with its own"
        if isinstance(theirs, str) and re.fullmatch(r"[A-Za-z_][\w.]*", theirs, re.ASCII):
            mend = f"with {python_command(theirs, '--resume', folder)}"
        raise InputError(f"{folder} is a run of {theirs!r}, not of {module}: resume it {mend}")
    try:
        values = _typed(options, config["options"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder / 'config.json'} holds no options that this version of {module} "
            f"understands: {error}"
        ) from error
    resumed: Options = dataclasses.replace(values, resume=folder)
    return resumed


def module_name(options: type[Any]) -> str:
    """The name under which `python -m` finds the program of an options class."""
    name = options.__module__
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if name == "__main__" and spec is not None else name


def _typed(kind: type[Any], values: dict[str, Any]) -> Any:
    """A dataclass from what `plain` made of it."""
    hints = get_type_hints(kind)
    typed: dict[str, Any] = {}
    for name, value in values.items():
        hint = hints[name]
        if dataclasses.is_dataclass(hint):
            value = _typed(hint, value)  # type: ignore[arg-type]
        elif isinstance(value, str) and Path in (hint, *get_args(hint)):
            value = Path(value)
        elif isinstance(value, list):
            value = tuple(value)
        try:
            check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
        except TypeCheckError as error:
            raise ValueError(f"{name}={value!r:.80} is of another type: {error}") from error
        typed[name] = value
    return kind(**typed)
