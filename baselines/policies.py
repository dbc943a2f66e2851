"""Policies of a comparison: what the words on its command line stand for.

A policy is a program with its options ("dqn --learning-rate 1e-4"), a pattern ("cycle:2"), a tie
vector ("0,0,2,2"), or a shallower transformer ("shallow:2"). Each seed of it is one run folder.
How they are run is in `baselines.running`.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import importlib.util
import json
import pkgutil
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tiegym import parts
from tiegym import ties as tie_vectors
from tiegym.config import TieConfig
from tiegym.runs.folder import WHERE_AND_HOW
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.options import RunOptions, parse_options

PACKAGES = ("agents", "baselines")
ALIASES = {"random": "baselines.random_tying"}
"""Names that aren't the program's own; in these a hyphen may stand for an underscore."""
OF_THE_COMPARISON = ("seed", "runs_dir", "name", "resume", "paper")
"""Options of a program that a comparison gives to all."""


@dataclass(frozen=True)
class ComparedPolicy:
    """One policy of a comparison: a program and its options, but for the seed and the folder."""

    label: str
    module: str
    options: RunOptions
    needed: tuple[str, ...] = ()
    """Files of its runs that others begin with: a finished run without them is made anew."""

    def folder(self, runs_dir: Path, seed: int) -> Path:
        """Where the run of a seed goes: the same configuration, the same folder.

        The label isn't part of it: two ways to write the same options share their runs. Neither is
        what changes nothing that a run does.
        """
        text = json.dumps([self.module, self.identity], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:10]
        name = f"{self.module.rpartition('.')[2]}-{getattr(self.options, 'pattern', '')}"
        slug = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
        return runs_dir / f"{slug[:150]}-{digest}-seed{seed}"  # names of files have an end

    @property
    def identity(self) -> dict[str, Any]:
        """The options that decide what its runs do, seeds aside."""
        values = dataclasses.asdict(self.options)
        return {key: value for key, value in values.items() if key not in {"seed", *WHERE_AND_HOW}}

    @property
    def train(self) -> Callable[[RunOptions], Path]:
        """The program: runs with these options, and returns the run folder."""
        train: Callable[[RunOptions], Path] = importlib.import_module(self.module).train
        return train


def parse_policy(text: str, env: TieConfig) -> ComparedPolicy:
    """Reads a policy.

    Args:
        text: A program of agents/ or baselines/, or a module of one's own, with options; a
            pattern; a tie vector; or shallow:M.
        env: The environment of the comparison; the policy's own options override it.

    Raises:
        InputError: If it is none of these, or has an option that is the comparison's.
    """
    try:
        head, *args = shlex.split(text) or [""]
    except ValueError as error:  # a quote without its end
        raise InputError(f"{text!r} is no policy: {error}") from error
    module, first = _find(head, env)
    if any(arg.partition("=")[0] == "--resume" for arg in args):  # which would be read here
        raise InputError(_belongs_to_the_comparison(text, "resume"))
    with as_input_errors():
        options = parse_options(importlib.import_module(module).Options, [*first, *args], env)
    defaults = {field.name: field.default for field in dataclasses.fields(RunOptions)}
    for name in OF_THE_COMPARISON:
        if getattr(options, name) != defaults[name]:
            raise InputError(_belongs_to_the_comparison(text, name))
    return ComparedPolicy(text, module, options)


def _belongs_to_the_comparison(text: str, name: str) -> str:
    return (
        f"{text!r}: --{name.replace('_', '-')} is no policy's: every run of a comparison gets it "
        "from the comparison"
    )


def _find(head: str, env: TieConfig) -> tuple[str, list[str]]:
    """The module of a policy's first word, and the options that the word stands for."""
    own = head.replace("-", "_")
    names = [ALIASES[head]] if head in ALIASES else [f"{p}.{own}" for p in PACKAGES]
    for name in names:
        if is_program(name):
            return name, []
    if shallow := re.fullmatch(r"shallow:(\d+)", head):
        return "baselines.shallow", ["--layers", shallow[1]]
    try:
        parts.parse(head, env.n_layer, env.n_parts)
        return "baselines.fixed", ["--pattern", head]
    except ValueError as error:
        if head.partition(".")[0] not in sys.stdlib_module_names and is_program(head):
            return head, []
        raise InputError(_no_policy(head, error)) from error


def is_program(name: str) -> bool:
    """Whether a module is a program: it has `Options`, of `RunOptions`, and `train`.

    Raises:
        InputError: If it is there, but can't be imported.
    """
    module = _module(name)
    options = getattr(module, "Options", None)
    return (
        isinstance(options, type)
        and issubclass(options, RunOptions)
        and callable(getattr(module, "train", None))
    )


def _module(name: str) -> ModuleType | None:
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        if importlib.util.find_spec(name) is None:
            return None
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            return None  # a package that it would be in
        raise InputError(
            f"{name} needs the package {error.name}, which isn't installed"
            + (" (pip install 'tiegym[agents]')" if name.startswith("agents.") else "")
        ) from error
    except Exception as error:
        raise InputError(f"{name} can't be imported: {type(error).__name__}: {error}") from error


def programs() -> list[str]:
    """The names of the programs of agents/ and baselines/, with those of `ALIASES`."""
    found = set(ALIASES)
    for package in PACKAGES:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            try:
                if is_program(f"{package}.{module.name}"):
                    found.add(module.name)
            except InputError:  # of an extra that isn't installed
                continue
    return sorted(found)


def _no_policy(head: str, reason: ValueError) -> str:
    if ":" in head or "," in head or head in tie_vectors.PATTERNS:  # meant as a pattern
        return f"{head!r} is no policy: {reason}"
    names = programs()
    near = difflib.get_close_matches(head, [*names, *tie_vectors.PATTERNS], 1)
    return (
        f"{head!r} is no policy"
        + (f": did you mean {near[0]!r}?" if near else ":")
        + f" There are the programs {', '.join(names)}, a module of your own with Options and "
        f"train, the patterns {', '.join(tie_vectors.PATTERNS)}, tie vectors such as 0,0,2,2, "
        "shallow:M, and folders of finished runs"
    )
