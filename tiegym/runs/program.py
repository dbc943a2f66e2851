"""What every program of agents/ and baselines/ shares: its environment, its loop, its ends.

The options are in `tiegym.runs.options`.
"""

from __future__ import annotations

import dataclasses
import errno
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np

from tiegym.config import TieConfig
from tiegym.runs.begin import FULL_DISK, AlreadyFinished, begin_run
from tiegym.runs.export_model import ExportModel
from tiegym.runs.folder import read_config
from tiegym.runs.input_errors import InputError, as_input_errors, input_errors
from tiegym.runs.journal import Journal
from tiegym.runs.live import ShowTies, WriteSample
from tiegym.runs.messages import say
from tiegym.runs.options import Options, RunOptions, parse_options
from tiegym.runs.progress import ShowProgress
from tiegym.runs.recorder import RecordRun
from tiegym.runs.replay import Resumable
from tiegym.runs.same_run import check_corpus, check_tokenizer, check_weights
from tiegym.runs.signals import Stopped
from tiegym.runs.torchrun import process_group
from tiegym.training.collectives import RankLost
from tiegym.training.out_of_memory import OutOfMemory
from tiegym.transformer.model_file import MODEL_FILE


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
        InputError: If the environment's arguments are invalid, or the corpus can't be read; if
            the corpus, the tokenizer or the pretrained weights are others than those of the run
            to resume; else as in `begin_run`.
        OSError: As in `begin_run`.
    """
    with as_input_errors():
        env: gymnasium.Env[Any, Any] = gymnasium.make(
            "tiegym:TieEnv-v0",
            render_mode="ansi" if options.render else None,
            **dataclasses.asdict(options.env),
        )
    if journal is None:
        journal = begin_run(options, program)
    try:
        recorded = read_config(journal.folder)
        config = {key: recorded[key] for key in ("program", "module", "options")}
        # Runs of version 0.1 have no hash, and those of one process no ranks.
        config |= {key: recorded[key] for key in ("source_sha256", "ranks") if key in recorded}
        task: Any = env.unwrapped.task  # type: ignore[attr-defined]
        tokenizer = None if task.tokenizer is None else task.tokenizer.sha256
        config["tokenizer_sha256"] = tokenizer
        if journal.resumed:
            check_corpus(journal.folder, options.env.corpus, task.sha256)
            weights = env.unwrapped.weights_sha256  # type: ignore[attr-defined]
            source = options.env.initial_weights or options.env.model
            check_weights(journal.folder, source, weights)
            if tokenizer is not None:
                check_tokenizer(journal.folder, options.env.tokenizer, tokenizer)
        # Within what replays: answers from the journal leave no model behind.
        if options.export:
            env = ExportModel(env, journal.folder / MODEL_FILE)
        if options.sample_tokens:
            env = WriteSample(env, journal.folder, options.sample_tokens, options.quiet)
        env = Resumable(
            env, journal, options.checkpoint_every_steps, options.checkpoint_every_minutes
        )
        if options.render:
            env = ShowTies(env, journal)
        env = ShowProgress(env, options.steps, description=program, disable=options.quiet)
        return RecordRun(env, journal.folder, config | spec, options.steps, journal)
    except BaseException:
        journal.close()
        raise


def run_program(
    options: type[Options],
    train: Callable[[Options], Path],
    args: Sequence[str] | None = None,
    env: TieConfig | None = None,
) -> None:
    """Runs a program from its command line, and says where its run folder is, last of all.

    Of several ranks that torchrun has started, rank 0 does so, and the others train with it.

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
    args = sys.argv[1:] if args is None else args
    try:
        with input_errors(InputError), process_group(args) as mine:
            if not mine:
                return
            with input_errors():
                parsed = parse_options(options, args, env)
            folder = train(parsed)
    except AlreadyFinished as finished:
        folder = finished.folder
        say(f"{folder} is finished already: nothing was done", sys.stdout)
    except Stopped as stopped:
        say(str(stopped), sys.stderr)
        raise SystemExit(128 + stopped.number) from None
    except KeyboardInterrupt:  # the second one, or before there was anything to keep
        say(f"stopped at once; {_KEPT}", sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except RankLost as error:
        say(f"{error}. When all are there again: {_KEPT}", sys.stderr)
        raise SystemExit(1) from error
    except OutOfMemory as error:
        say(str(error), sys.stderr)
        raise SystemExit(1) from error
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        room = error.errno in FULL_DISK
        problem = "no room to write the run" if room else "the run can't be written"
        mend = "Free some space" if room else "When that is mended"
        say(f"{problem} ({error}). {mend}; {_KEPT}", sys.stderr)
        raise SystemExit(1) from error
    say(f"run folder: {folder}", sys.stdout)


_KEPT = "what was recorded is kept, and --resume with the run's folder goes on from it"

_OF_THE_MACHINE = (
    *FULL_DISK,
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE, errno.ENODEV),
    *(errno.EMFILE, errno.ENFILE),
)
"""Errors that no program can do anything about."""


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
