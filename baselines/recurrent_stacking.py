"""Recurrent stacking: one layer, applied L times, that begins as a layer of an untied model.

    python -m baselines.recurrent_stacking --seed 1
    python -m baselines.recurrent_stacking --run runs/fixed-independent-seed0 --layer 3 --seed 1

After Dabre and Fujita 2019 and 2021 (arXiv 1807.05353, 2106.10002). All layers share weights, and
the gradient is that of all positions: env.initial-ties is tied and env.tie-grad sum, whatever is
given. The shared layer comes from an untied model, in one of two ways:

- within the run: for --at of the iterations all layers are independent, then all are tied to the
  first one. With --at 0 the layer begins as drawn.
- with --run, from a layer of a model that is trained already; its iterations are on record as
  extra ones.

The papers are about translation, and take the layer of a trained model; the way within one run is
ours, for comparisons at one budget. The run's rows and final figures are at depth env.n-layer; the
losses at other depths, where the same layer is applied fewer times (layer reduction) or more often,
are in its summary.json, under losses_by_depth.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from baselines.frozen_model import FrozenOptions, model_env, open_frozen, read_model
from baselines.layer_consistency import LossesByDepth
from tiegym.config import TieConfig
from tiegym.policies.scheduled import ScheduledTies, unshare_then_share
from tiegym.runs.input_errors import as_input_errors
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.training.initial_weights import stacked


@dataclass(frozen=True)
class Options(FrozenOptions):
    """Train one shared layer that begins as a layer of an untied model."""

    run: Path | None = None
    """A trained model whose layer the shared one begins as: the folder of a finished run that kept
    it (--export), or a file that an environment exported. None: see at."""
    layer: int | None = None
    """With run: which of its layers; None is the first."""
    at: float | None = None
    """Without run: share of the iterations that all layers are independent; None is a half."""
    deepest: int | None = None
    """The greatest depth at which the result is evaluated; None is env.n-layer."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range, or without effect.
        """
        super().__post_init__()
        if self.run is None and self.layer is not None:
            raise ValueError(f"layer={self.layer} has no effect without run: give --run runs/NAME")
        if self.run is not None and self.at is not None:
            raise ValueError(f"at={self.at} has no effect with run, whose model is trained already")
        if self.at is not None and not 0 <= self.at < 1:
            raise ValueError(f"at={self.at} must be a share, from 0 to below 1")
        if self.deepest is not None and self.deepest < 1:
            raise ValueError(f"deepest={self.deepest} must be at least 1, or None for env.n-layer")
        self.used_env()

    def used_env(self, weights: Path | None = None) -> TieConfig:
        """The environment: the given one, but for what stacking needs.

        Args:
            weights: The file of the trained model.

        Raises:
            ValueError: If they don't go together.
        """
        env = self.env
        if env.model != "gpt":
            raise ValueError(f'env.model={env.model!r} must be "gpt": only that runs at any depth')
        return dataclasses.replace(
            env,
            action="joint",
            choices="tie",
            tie_grad="sum",
            initial_ties="independent" if self.run is None else "tied",
            initial_weights=env.initial_weights if weights is None else str(weights),
        )


def train(options: Options) -> Path:
    """Trains the layer; returns the run folder.

    Raises:
        InputError: If the run isn't finished, kept no model, or its model doesn't fit.
    """
    layer, source = options.layer or 0, None
    with as_input_errors(ValueError):
        if options.run is None:
            config = options.used_env()
        else:
            file, model = read_model(options.run)
            config, source = options.used_env(file), stacked(model, layer)
    options = dataclasses.replace(options, env=config)
    at = 0.0 if source is not None else 0.5 if options.at is None else options.at
    plan = unshare_then_share(config.n_layer, config.max_iters, at)
    opened = open_run if source is None else open_frozen
    with opened(options, "recurrent-stacking") as env:
        if source is not None:
            trained: Any = env.unwrapped
            trained.workload.source = source
        run_policy(
            LossesByDepth(env, options.deepest or config.n_layer),
            ScheduledTies(plan, config.max_iters),
            options.seed,
            options.steps,
        )
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else args
    run_program(Options, train, args, model_env(args))


if __name__ == "__main__":
    main()
