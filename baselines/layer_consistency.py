"""Layer consistency: one shared layer, applied a number of times that is drawn for each iteration.

    python -m baselines.layer_consistency --seed 1 --env.tie-grad sum

After Layer Consistency (2021, arXiv 2105.00812), which is about speech: all layers share weights,
each training iteration applies the layer d times, d drawn uniformly, and the result can be used at
any depth. From which range d is drawn there its abstract doesn't say; here it is from --least to
env.n-layer. The run's rows and its final figures are at depth env.n-layer, as those of any other
run; the losses at each depth are in its summary.json, under losses_by_depth.

It is the pattern "tied" but for the drawn depths. So env.initial-ties is tied, whatever is given.
The gradient of the paper is that of all applications: env.tie-grad=sum. An iteration counts as one
however deep it is; seconds say what shallow ones save.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from tiegym import ties as tie_vectors
from tiegym.policies.fixed import FixedTies
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.runs.recorder import RecordRun
from tiegym.runs.replay import innermost


@dataclass(frozen=True)
class Options(RunOptions):
    """Train one shared layer that is applied a drawn number of times."""

    least: int = 1
    """The least number of applications in training; the greatest is env.n-layer."""
    deepest: int | None = None
    """The greatest depth at which the result is evaluated, from 1 on; None is env.n-layer. It may
    be more than that."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range, or layers would have private parts.
        """
        super().__post_init__()
        if not 1 <= self.least <= self.env.n_layer:
            raise ValueError(
                f"least={self.least} must be a number of layers, from 1 to {self.env.n_layer}"
            )
        if self.deepest is not None and self.deepest < 1:
            raise ValueError(f"deepest={self.deepest} must be at least 1, or None for env.n-layer")
        if self.env.model != "gpt":
            raise ValueError(
                f'env.model={self.env.model!r} must be "gpt": other models run all their layers, '
                "each once"
            )
        if self.env.private != "none":
            raise ValueError(
                f'env.private={self.env.private!r} must be "none": one layer that is applied any '
                "number of times has nothing that belongs to one of its places"
            )


class LossesByDepth(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Puts the losses at each depth into a run's summary when an episode ends.

    Args:
        env: The run.
        deepest: The greatest depth.
    """

    def __init__(self, env: RecordRun, deepest: int) -> None:
        super().__init__(env)
        self.record = env
        self.depths = range(1, deepest + 1)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; after the last step of an episode, also evaluates. In nats, in order of depth."""
        result = self.env.step(action)
        if result[2]:
            inside: Any = innermost(self)
            self.record.note(losses_by_depth=inside.once(self.losses))
        return result

    def losses(self) -> dict[str, list[float]]:
        """In nats a token, at depths 1, 2, ..."""
        env: Any = self.unwrapped
        return {
            "validation": [env.validation_loss(depth) for depth in self.depths],
            "test": [env.test_loss(depth) for depth in self.depths],
        }


def drawn_depths(least: int, n_layer: int, max_iters: int, seed: int) -> list[int]:
    """How many layers each iteration runs, uniformly from `least` to `n_layer`, (max_iters,).

    The stream is its own: neither the environment's nor that of a random policy.
    """
    rng = np.random.default_rng((seed, 3))
    depths: list[int] = rng.integers(least, n_layer + 1, max_iters).tolist()
    return depths


def train(options: Options) -> Path:
    """Trains the layer; returns the run folder."""
    env_config = dataclasses.replace(options.env, initial_ties="tied")
    options = dataclasses.replace(options, env=env_config)
    n_layer = env_config.n_layer
    depths = drawn_depths(options.least, n_layer, env_config.max_iters, options.seed)
    with open_run(options, "layer-consistency") as env:
        env.unwrapped.depths = depths  # type: ignore[attr-defined]
        env.note(mean_depth=float(np.mean(depths)))
        policy = FixedTies(tie_vectors.pattern("tied", n_layer), env.action_space)
        run_policy(
            LossesByDepth(env, options.deepest or n_layer), policy, options.seed, options.steps
        )
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
