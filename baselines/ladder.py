"""Ladder side-tuning: a narrow network learns beside a trained model, which stays as it is.

    python -m baselines.ladder --run runs/fixed-tied-seed0 --seed 1

After Sung et al. 2022 (arXiv 2206.06522): a side network of width C / r, a block for each layer of
the model, reads the model's hidden states through gates, and the model's output head reads the side
network. No gradient goes through the model. See `tiegym.transformer.ladder` for the formulas and
`tiegym.transformer.fisher_start` for what the side network begins with.

The environment is that of the run; its arguments on the command line change it. In a comparison,
`baselines.compare "ladder --run runs/fixed-tied-seed0"`, it is that of the comparison. Whatever is
given, env.choices is tie+freeze, env.embeddings frozen, env.action joint, env.compile and
env.checkpoint-activations are off, and ties, private parts and weights are those of the model.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baselines.frozen_model import FrozenOptions, env_beside, model_env, train_frozen
from tiegym.runs.input_errors import as_input_errors
from tiegym.runs.program import run_program
from tiegym.training.frozen_workload import FrozenWorkload
from tiegym.transformer.fisher_start import start_from_backbone
from tiegym.transformer.ladder import LadderTransformer, side_width


@dataclass(frozen=True)
class Options(FrozenOptions):
    """Train a narrow side network beside a model that is trained already."""

    reduction: int = 8
    """r: the side network is env.n-embd / r wide. It has env.n-head heads, whose width must be
    a whole number."""
    fisher_samples: int = 64
    """Sequences whose gradients choose the rows and columns of the model that the side network
    begins with; 0 begins with drawn ones. (The paper has 1024.)"""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range, or asks for what a side network can't do.
        """
        super().__post_init__()
        if self.reduction < 1:
            raise ValueError(f"reduction={self.reduction} must be at least 1")
        if self.fisher_samples < 0:
            raise ValueError(f"fisher_samples={self.fisher_samples} must be 0 or more sequences")
        if self.export:
            raise ValueError(
                "export=True: a model with a side network is in no form that other programs load; "
                "leave out --export"
            )


def train(options: Options) -> Path:
    """Trains the side network; returns the run folder.

    Raises:
        InputError: If the run isn't finished, kept no model, or its model doesn't fit.
    """
    config = env_beside(options.run, options.env)
    with as_input_errors(ValueError):
        side_width(config.n_embd, config.n_head, options.reduction)
    beside = functools.partial(
        FrozenWorkload,
        kind=functools.partial(LadderTransformer, reduction=options.reduction),
        start=start_from_backbone if options.fisher_samples else None,
        n_samples=options.fisher_samples,
    )
    return train_frozen(options, config, "ladder", beside)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else args
    run_program(Options, train, args, model_env(args))


if __name__ == "__main__":
    main()
