"""How many layers the paper's agent leaves independent when its reward says nothing.

    python -m baselines.constant_reward --workers 2

The research code gives its agent minus the perplexity of a batch, clipped into [-10, 10]. As long
as perplexity is over ten, each reward is -10, whatever the transformer, its size and its text.
Decisions then come from the agent's own first weights and random numbers, and it takes no
transformer to know what they are. Runs are kept one by one: stopped, the same command goes on.
After a change of the agent, give another --runs-dir.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import gymnasium
import numpy as np
from gymnasium import spaces

from agents.qlearning import Bootstrap, QLearning
from tiegym import ties
from tiegym.actions import Actions
from tiegym.analysis.intervals import mean_interval
from tiegym.analysis.markdown import markdown_table
from tiegym.bench.table import Floats
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import InputError, at_least
from tiegym.runs.json_files import read_json, write_json
from tiegym.runs.messages import say
from tiegym.runs.processes import do_all, long_work
from tiegym.runs.progress import Progress
from tiegym.training.one_thread import one_thread

CLAIMED = range(6, 11)
"""The paper's agents left six to ten of 48 layers independent."""


@dataclass(frozen=True)
class Options:
    """Count what the paper's agent leaves independent when its reward says nothing."""

    n_layer: tuple[int, ...] = (12, 48)
    """Numbers of layers."""
    sweeps: int = 300
    """Each asks about every layer but the first; the paper has 300."""
    seeds: int = 10
    """Of each number of layers and each bootstrap: 0, 1, ..."""
    workers: int = 1
    """Processes; their number changes nothing in what is counted."""
    runs_dir: Path = Path("runs/constant-reward")
    """Where a file for each run is kept."""

    def check(self) -> None:
        """Refuses options that are out of range.

        Raises:
            InputError: If one is.
        """
        at_least(self, 1, "sweeps", "workers")
        at_least(self, 2, "n_layer", "seeds")
        if len(set(self.n_layer)) < len(self.n_layer):
            raise InputError(f"n_layer={self.n_layer} must have each number once")


class ConstantRewardEnv(gymnasium.Env[dict[str, Any], int]):
    """What the paper's agent sees of a transformer, and the same reward at every step.

    The observation is a Dict of `ties` (L,) and `layer`, as TieEnv's; the action ties the layer
    under the cursor, which goes through layers 1 to L - 1 again and again. At first all are tied.

    Attributes:
        counted: Independent layers after each step so far.
    """

    def __init__(self, n_layer: int, steps: int, reward: float = -10.0) -> None:
        self.actions = Actions("layerwise", n_layer)
        self.steps, self.reward = steps, reward
        self.action_space = self.actions.space()
        self.observation_space = spaces.Dict(
            {
                "ties": spaces.MultiDiscrete(np.arange(n_layer) + 1, dtype=np.int16),
                "layer": spaces.Discrete(n_layer, dtype=np.int16),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """See `gymnasium.Env`; everything is as at the first reset."""
        super().reset(seed=seed)
        self.ties = np.zeros(self.actions.n_layer, dtype=np.int64)
        self.layer = self.actions.first()
        self.counted: list[int] = []
        return self._observation(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`; actions from the layer's own number on make it independent."""
        self.ties = ties.set_tie(self.ties, self.layer, min(int(action), self.layer))
        self.layer = self.actions.following(self.layer)
        self.counted.append(ties.n_independent(self.ties))
        return self._observation(), self.reward, len(self.counted) == self.steps, False, {}

    def _observation(self) -> dict[str, Any]:
        return {"ties": self.ties.astype(np.int16), "layer": self.layer}


@dataclass(frozen=True)
class Task:
    """One run, and the file that its figures go to."""

    n_layer: int
    bootstrap: Bootstrap
    seed: int
    sweeps: int
    runs_dir: Path

    @property
    def file(self) -> Path:
        """Its place."""
        name = f"{self.n_layer}-layers-{self.bootstrap}-{self.sweeps}-sweeps-seed{self.seed}"
        return self.runs_dir / f"{name}.json"


def chances(n_layer: int) -> Floats:
    """How probable each number of independent layers, 0 to L, is in a uniform draw, (L + 1,)."""
    result = np.ones(1)
    for i in range(n_layer):  # layer i is independent in one of i + 1 cases
        result = np.convolve(result, (i / (i + 1), 1 / (i + 1)))
    return result


def count(task: Task) -> None:
    """Runs one agent; keeps how many layers were independent at the end, and in the last tenth."""
    steps = task.sweeps * (task.n_layer - 1)
    env = ConstantRewardEnv(task.n_layer, steps + 1)  # which doesn't end before the agent does
    with one_thread():
        agent = QLearning(
            "LayerPolicy", env, bootstrap=task.bootstrap, seed=task.seed, device="cpu"
        )
        agent.learn(steps)
    last_tenth = env.counted[-max(1, steps // 10) :]
    figures = {"end": env.counted[-1], "last_tenth": float(np.mean(last_tenth))}
    write_json(task.file, figures)


def tasks_of(options: Options) -> list[Task]:
    """Every run, seed by seed."""
    cells = product(range(options.seeds), options.n_layer, get_args(Bootstrap))
    return [Task(n, how, seed, options.sweeps, options.runs_dir) for seed, n, how in cells]


def table(options: Options) -> str:
    """The table of finished runs in Markdown.

    Raises:
        InputError: If a file is damaged.
    """
    claimed = f"{CLAIMED.start} to {CLAIMED.stop - 1}"
    headings = (
        *("layers", "next state is valued by", "independent in the last tenth, mean [95 %]"),
        *("a uniform draw", "at the end, by seed", f"of these {claimed}", "of uniform draws"),
    )
    lines = []
    for n_layer, bootstrap in product(options.n_layer, get_args(Bootstrap)):
        cell = [t for t in tasks_of(options) if (t.n_layer, t.bootstrap) == (n_layer, bootstrap)]
        ends, means = zip(*(_figures(task.file) for task in cell), strict=True)
        mean, low, high = mean_interval(means)
        lines.append(
            (
                str(n_layer),
                "the layer just decided" if bootstrap == "same-layer" else "the next layer",
                f"{mean:.2f} [{low:.2f}, {high:.2f}]",
                f"{ties.expected_independent(n_layer):.2f}",
                ", ".join(str(end) for end in sorted(ends)),
                f"{sum(end in CLAIMED for end in ends)} of {len(ends)}",
                f"{chances(n_layer)[CLAIMED.start : CLAIMED.stop].sum():.0%}",
            )
        )
    return markdown_table(headings, lines, left=(1,))


def _figures(file: Path) -> tuple[int, float]:
    try:
        found = read_json(file)
        return int(found["end"]), float(found["last_tenth"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file} is damaged ({error}): remove it to run it again") from error


def run(options: Options) -> str:
    """Runs what is missing; returns the table.

    Raises:
        InputError: If an option is wrong, the folder can't be written, or a file in it is damaged.
        RunsFailed: If a process was killed.
    """
    options.check()
    try:
        options.runs_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"runs_dir={str(options.runs_dir)!r} can't be used: {error}") from error
    every = tasks_of(options)
    missing = [task for task in every if not task.file.exists()]
    steps = {task: task.sweeps * (task.n_layer - 1) for task in every}
    total, done = sum(steps.values()), sum(steps[t] for t in every if t not in missing)
    progress = Progress(total, f"{len(missing)} runs", done=done, unit="decisions")
    try:
        for task in do_all(count, missing, options.workers):
            done += steps[task]
            progress.update(done)
    finally:
        progress.close()
    return table(options)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    options = read_command_line(Options, "baselines.constant_reward", __doc__, args=args)
    with long_work():
        say(f"{run(options)}\nruns: {options.runs_dir}", sys.stdout)


if __name__ == "__main__":
    main()
