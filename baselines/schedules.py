"""Tying schedules: ties that change at iterations which are known beforehand.

    python -m baselines.schedules --schedule share-then-unshare
    python -m baselines.schedules --schedule progressive-split --until 4

share-then-unshare (Yang et al. 2021, arXiv 2110.03848): all layers share weights at first, and
from 10 % of the iterations on each trains its own. progressive-split: one group of all layers at
first; at even intervals the largest group is split in halves.

Every change clones the weights and the optimiser's moments, so that the function of the
transformer stays the same. The ties of several layers change at once, so these always run with
env.action=joint and env.initial-ties=tied, whatever is given. Changes happen between environment
steps: where env.iters-per-step doesn't divide an iteration, at the next step after it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tiegym.config import TieConfig
from tiegym.policies.scheduled import ScheduledTies, progressive_split, share_then_unshare
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer under a tying schedule; always with env.action=joint."""

    schedule: Literal["share-then-unshare", "progressive-split"] = "share-then-unshare"
    """share-then-unshare: all tied, then all independent; progressive-split: the largest group of
    layers is split in halves, again and again."""
    at: float = 0.1
    """share-then-unshare: share of the iterations after which all layers are untied."""
    by: float = 0.5
    """progressive-split: share of the iterations after which the last split is made."""
    until: int | None = None
    """progressive-split: independent layers at the end; None is all."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range, or without effect.
        """
        super().__post_init__()
        for name in ("at", "by"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be a share, from 0 to 1")
        defaults = {f.name: f.default for f in dataclasses.fields(self)}
        for name in ("at", "by", "until"):
            value = getattr(self, name)
            schedule = "share-then-unshare" if name == "at" else "progressive-split"
            if value != defaults[name] and self.schedule != schedule:
                raise ValueError(
                    f"{name}={value} has no effect with schedule={self.schedule!r}: it belongs to "
                    f'"{schedule}"'
                )
        if self.until is not None and not 1 <= self.until <= self.env.n_layer:
            raise ValueError(
                f"until={self.until} must be a number of layers, from 1 to {self.env.n_layer}"
            )
        self.used_env()

    def used_env(self) -> TieConfig:
        """The environment: the given one, but for what a schedule needs.

        Raises:
            ValueError: If they don't go together.
        """
        return dataclasses.replace(self.env, action="joint", initial_ties="tied")


def train(options: Options) -> Path:
    """Trains under the schedule; returns the run folder."""
    env_config = options.used_env()
    options = dataclasses.replace(options, env=env_config)
    n_layer, max_iters = env_config.n_layer, env_config.max_iters
    if options.schedule == "share-then-unshare":
        plan = share_then_unshare(n_layer, max_iters, options.at)
    else:
        plan = progressive_split(n_layer, max_iters, options.by, options.until)
    with open_run(options, options.schedule) as env:
        run_policy(env, ScheduledTies(plan, max_iters), options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
