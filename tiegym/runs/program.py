"""What every program of agents/ and baselines/ shares: its run folder, its loop, its ends.

The options are in `tiegym.runs.options`.
"""

from __future__ import annotations

import dataclasses
import errno
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
import torch

from tiegym.config import TieConfig
from tiegym.runs import provenance
from tiegym.runs.folder import (
    FORMAT,
    WHERE_AND_HOW,
    is_finished,
    read_config,
    unique_run_folder,
)
from tiegym.runs.input_errors import InputError, input_errors
from tiegym.runs.journal import Journal
from tiegym.runs.json_files import plain, read_json, write_json
from tiegym.runs.options import Options, RunOptions, module_name, parse_options
from tiegym.runs.progress import ShowProgress
from tiegym.runs.recorder import RecordRun
from tiegym.runs.replay import Resumable
from tiegym.runs.signals import Stopped
from tiegym.runs.source_code import source_sha256
from tiegym.training.out_of_memory import OutOfMemory
from tiegym.transformer.model_file import MODEL_FILE, ExportModel


class Policy(Protocol):
    """Anything with Stable-Baselines3's `predict`."""

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """The action for an observation, and the policy's next hidden state."""
        ...


def begin_run(options: RunOptions, program: str) -> Journal:
    """Makes the folder of a run and its journal, or opens those of the run to resume.

    For programs that do something before they have their environment; `open_run` does it for the
    others. A resumed run gets as many of PyTorch's threads as it had: the bits depend on them.

    Args:
        options: The program's options; all of them are recorded.
        program: What the run folder is named after, such as "qlearning".

    Raises:
        AlreadyFinished: If the run to resume is.
        FileNotFoundError: If there is no run to resume.
        BlockingIOError: If another process has it open.
        ValueError: If it had other options, or a file of it is damaged.
        OSError: If the folder can't be written.
    """
    record = {
        "format": FORMAT,
        "program": program,
        "module": module_name(type(options)),
        "options": plain(options),
        "versions": provenance.versions(),
        "threads": torch.get_num_threads(),
        "source_sha256": source_sha256(type(options).__module__),
    }
    if options.resume is None:
        name = options.name or f"{program}-seed{options.seed}"
        journal = Journal(unique_run_folder(options.runs_dir, name))
        write_json(journal.folder / "config.json", record)
        return journal
    folder = options.resume
    config = read_config(folder)
    if is_finished(folder):
        raise AlreadyFinished(folder)
    _check_same(folder, config, record)
    journal = Journal(folder, resume=True)
    if is_finished(folder):  # by the process that had it open until now
        journal.close()
        raise AlreadyFinished(folder)
    if "threads" in config:
        torch.set_num_threads(config["threads"])
    return journal


class AlreadyFinished(ValueError):
    """A run that is to be resumed has nothing left to do.

    Args:
        folder: Of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} is finished already: there is nothing to resume")
        self.folder = folder


def open_run(
    options: RunOptions, program: str, journal: Journal | None = None, **spec: Any
) -> RecordRun:
    """Makes the environment of a run and its folder, or goes on with the run to resume.

    Use it in a `with` statement: its end says that the run is complete. A resumed program runs
    from its beginning, with answers from the journal at first. So it must learn all that decides
    what it does from the environment's methods, and seed all generators that it draws from.

    Args:
        options: The program's options; all of them are recorded.
        program: What the run folder is named after, such as "qlearning".
        journal: What `begin_run` returned; None calls it.
        **spec: Further entries of config.json.

    Raises:
        InputError: If the environment's arguments are invalid, or the corpus can't be read.
        ValueError: As in `begin_run`.
        OSError: If the folder can't be written.
    """
    try:
        env: gymnasium.Env[Any, Any] = gymnasium.make(
            "tiegym:TieEnv-v0", **dataclasses.asdict(options.env)
        )
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    if journal is None:
        journal = begin_run(options, program)
    recorded = read_json(journal.folder / "config.json")
    config = {key: recorded[key] for key in ("program", "module", "options")}
    if "source_sha256" in recorded:  # runs of version 0.1 have none
        config["source_sha256"] = recorded["source_sha256"]
    try:
        if options.export:  # within what replays: answers from the journal leave no model behind
            env = ExportModel(env, journal.folder / MODEL_FILE)
        env = Resumable(
            env, journal, options.checkpoint_every_steps, options.checkpoint_every_minutes
        )
        env = ShowProgress(env, options.steps, description=program, disable=options.quiet)
        return RecordRun(env, journal.folder, config | spec, options.steps, journal)
    except BaseException:
        journal.close()
        raise


FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space, no quota, or a file larger than it may be."""


def _check_same(folder: Path, recorded: dict[str, Any], given: dict[str, Any]) -> None:
    """Checks that a run goes on with the program and the options that it began with."""
    theirs = {"program": recorded.get("program"), **recorded.get("options", {})}
    ours = {"program": given["program"], **given["options"]}
    theirs |= {f"env.{key}": value for key, value in theirs.pop("env", {}).items()}
    ours |= {f"env.{key}": value for key, value in ours.pop("env").items()}
    different = [
        f"{key} ({theirs.get(key)!r} then, {ours.get(key)!r} now)"
        for key in ours.keys() | theirs.keys()
        if key not in WHERE_AND_HOW and theirs.get(key) != ours.get(key)
    ]
    if different:
        raise ValueError(
            f"{folder} can only go on with the options that it began with; different are "
            + ", ".join(sorted(different))
        )


def run_program(
    options: type[Options],
    train: Callable[[Options], Path],
    args: Sequence[str] | None = None,
    env: TieConfig | None = None,
) -> None:
    """Runs a program from its command line, and says where its run folder is, last of all.

    A stop by Ctrl-C or SIGTERM ends it with one line that says how to go on; so do a full disk
    and too little memory, with one that says what to do.

    Args:
        options: The program's dataclass.
        train: The program; returns the run folder.
        args: See `parse_options`.
        env: See `parse_options`.

    Raises:
        SystemExit: After a stop, with 128 and the signal's number; with 2 if what was asked for
            can't be done; else with 1.
    """
    with input_errors():
        parsed = parse_options(options, args, env)
    try:
        with input_errors(InputError):
            folder = train(parsed)
    except AlreadyFinished as finished:
        folder = finished.folder
        print(f"{folder} is finished already: nothing was done")
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        raise SystemExit(128 + stopped.number) from None
    except OutOfMemory as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        print(
            f"no room to write the run ({error}): everything up to its last step is kept. Free "
            "some space, then go on with --resume and the run's folder",
            file=sys.stderr,
        )
        raise SystemExit(1) from error
    print(f"run folder: {folder}")


def run_policy(env: gymnasium.Env[Any, Any], policy: Policy, seed: int, steps: int) -> None:
    """Steps an environment with a fixed policy, from episode to episode.

    Args:
        env: Any TieEnv.
        policy: Its actions are sampled, not deterministic.
        seed: Of the first reset.
        steps: Environment steps.
    """
    observation, _ = env.reset(seed=seed)
    state, start = None, True
    for _ in range(steps):
        action, state = policy.predict(observation, state, np.array([start]), deterministic=False)
        observation, _, terminated, truncated, _ = env.step(action)
        start = terminated or truncated
        if start:
            observation, _ = env.reset()
