"""Splitting by gradients: at intervals, the group whose layers' gradients disagree most.

    python -m baselines.gradient_split
    python -m baselines.gradient_split --pattern sequence:2 --every 5 --until 6

After share-and-then-split by SWE (Yang et al. 2021, arXiv 2110.03848), which watches how the
gradients of neighbouring layers correlate. Here it is the agreement of each layer's gradient with
the sum over its group (`tiegym.features`). The group of the lowest mean is cut in two where its
sides differ most; both keep their weights and the optimiser's moments, so that the function of the
transformer stays the same.

It needs a gradient at every position, and the ties of several layers change at once: so these
always run with env.tie-grad=sum, env.action=joint and env.features=agreement, whatever is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiegym import parts
from tiegym.config import TieConfig
from tiegym.policies.gradient_split import GradientSplit
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer, splitting groups by gradients; always with env.tie-grad=sum."""

    pattern: str = "tied"
    """The groups at first: a pattern such as sequence:2, or a tie vector; takes
    env.initial-ties' place."""
    every: int = 10
    """Environment steps between two splits, and before the first."""
    until: int | None = None
    """Independent layers (with parts: attentions and MLPs together) at which it ends; None is
    all."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range, or the pattern impossible for so many layers.
        """
        super().__post_init__()
        n_layer, n_parts = self.env.n_layer, self.env.n_parts
        ties = parts.parse(self.pattern, n_layer, n_parts)
        first = parts.n_independent(ties, n_layer)
        if self.every < 1:
            raise ValueError(f"every={self.every} must be at least 1 environment step")
        if self.until is not None and not first <= self.until <= len(ties):
            raise ValueError(
                f"until={self.until} must be a number of independent layers from {first}, which "
                f"pattern={self.pattern!r} begins with, to {len(ties)}"
            )
        self.used_env()

    def used_env(self) -> TieConfig:
        """The environment: the given one, but for what splitting needs.

        Raises:
            ValueError: If they don't go together.
        """
        return dataclasses.replace(
            self.env,
            action="joint",
            tie_grad="sum",
            initial_ties=self.pattern,
            features="agreement",
        )


def train(options: Options) -> Path:
    """Trains under the policy; returns the run folder."""
    env_config = options.used_env()
    options = dataclasses.replace(options, env=env_config)
    until = env_config.n_layer * env_config.n_parts if options.until is None else options.until
    policy = GradientSplit(env_config, options.every, until)
    with open_run(options, "gradient_split") as env:
        run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
