"""What every program of agents/ and baselines/ shares: its options, its run folder, its loop."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import gymnasium
import numpy as np
import tyro

from tiegym.config import PAPER, TieConfig
from tiegym.progress import ShowProgress
from tiegym.records import RecordRun, unique_run_folder

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
    """No progress bar."""
    paper: bool = False
    """Start from the paper's values (TieEnvPaper-v0) instead of TieEnv-v0's."""
    env: TieConfig = field(default_factory=TieConfig)
    """The environment."""

    @property
    def steps(self) -> int:
        """Environment steps of the whole run."""
        return self.env.steps_per_episode if self.total_steps is None else self.total_steps


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


def parse_options(
    options: type[Options], args: Sequence[str] | None = None, env: TieConfig | None = None
) -> Options:
    """Reads a program's command line; its help comes from the fields' docstrings.

    Args:
        options: The program's dataclass.
        args: The command line; None takes the process's own.
        env: What the arguments of the environment default to; None takes `TieConfig`'s own
            values, or the paper's where the command line has --paper.
    """
    args = sys.argv[1:] if args is None else args
    if env is None:
        env = TieConfig(**(PAPER if "--paper" in args else {}))
    return tyro.cli(options, default=options(env=env), args=args, description=options.__doc__)


def open_run(options: RunOptions, program: str, **spec: Any) -> RecordRun:
    """Makes the environment of a run and its folder.

    Args:
        options: The program's options; all of them are recorded.
        program: What the run folder is named after, such as "qlearning".
        **spec: Further entries of config.json.

    Raises:
        ValueError: If the environment's arguments are invalid.
        OSError: If the corpus can't be read or the folder can't be written.
    """
    env: gymnasium.Env[Any, Any] = gymnasium.make(
        "tiegym:TieEnv-v0", **dataclasses.asdict(options.env)
    )
    env = ShowProgress(env, options.steps, description=program, disable=options.quiet)
    folder = unique_run_folder(options.runs_dir, options.name or f"{program}-seed{options.seed}")
    config = {"program": program, "options": dataclasses.asdict(options), **spec}
    return RecordRun(env, folder, config, total_steps=options.steps)


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
