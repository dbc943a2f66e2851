"""Norms only: a trained model goes on with everything frozen but its layer norms.

    python -m baselines.norms_only --run runs/fixed-tied-seed0 --seed 1

After "LN-simple" of Zhao et al. 2023 (arXiv 2312.11420), which trains the layer norms of a
pretrained model alone. The run that the model comes from must be finished, and have kept its model
(--export); or --run names a file that an environment exported. Its ties stay; each layer gets layer
norms of its own, which begin with those that it had. So a transformer whose layers share all
weights learns to tell them apart by their norms.

The environment is that of the run; its arguments on the command line change it. In a comparison,
`baselines.compare "norms-only --run runs/fixed-tied-seed0"`, it is that of the comparison. Whatever
is given, env.private is norms, env.choices tie+freeze, env.embeddings frozen, env.action joint, and
ties and weights at the start are those of the model.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baselines.frozen_model import FrozenOptions, env_of, model_env, train_frozen
from tiegym.runs.program import run_program


@dataclass(frozen=True)
class Options(FrozenOptions):
    """Train nothing but the layer norms of a model that is trained already."""


def train(options: Options) -> Path:
    """Trains the norms; returns the run folder.

    Raises:
        InputError: If the run isn't finished, kept no model, or its model doesn't fit.
    """
    config = env_of(options.run, options.env, private="norms")
    return train_frozen(options, config, "norms-only")


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else args
    run_program(Options, train, args, model_env(args))


if __name__ == "__main__":
    main()
