"""Elastic depth: routers learn which tokens can leave out which layers of a trained model.

    python -m baselines.elastic_depth --run runs/fixed-tied-seed0 --seed 1

After ElastiFormer (2024, arXiv 2411.15281), of which only the token routers of whole layers are
here; `tiegym.transformer.elastic_depth` has the formulas and says what differs. The model stays as
it is, and is the teacher of its routers. The run's rows and its final figures are those at
--threshold, but for train_loss, which is the routers' loss. In its folder are depth.csv and
depth.png: perplexity against the layers that a token runs through on average, for routers, for
tokens drawn at random in their place, and for the model's first layers alone (layer reduction).

The environment is that of the run; its arguments on the command line change it. In a comparison,
`baselines.compare "elastic-depth --run runs/fixed-tied-seed0"`, it is that of the comparison.
Whatever is given, env.choices is tie+freeze, env.embeddings frozen, env.action joint, env.dropout
0, env.compile and env.checkpoint-activations are off, and ties, private parts and weights are those
of the model.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium

from baselines.frozen_model import FrozenOptions, env_beside, model_env, train_frozen
from tiegym.analysis.forms import write_csv
from tiegym.pictures.depth_curve import plot_depth_curve
from tiegym.runs.program import run_program
from tiegym.runs.recorder import RecordRun
from tiegym.runs.replay import innermost
from tiegym.training.frozen_workload import FrozenWorkload
from tiegym.transformer.elastic_depth import ElasticTransformer, Gain

THRESHOLDS = tuple(k / 10 for k in range(10))
"""At which the curve is measured, and at --threshold: all tokens at 0."""

ROUTERS, RANDOM, REDUCED = "routers", "tokens at random", "first layers"


@dataclass(frozen=True)
class Options(FrozenOptions):
    """Train routers that let tokens leave out layers of a model that is trained already."""

    least: float = 0.25
    """The least share of tokens that run through a layer in training."""
    most: float = 1.0
    """The largest; each iteration draws a share between the two."""
    threshold: float = 0.5
    """What a router must say at least, from 0 to 1, for a token to run, in rows and final figures.
    At 0 all run; with --least 0 and --most 1, about 1 - threshold of them do."""
    gain: Gain = "straight-through"
    """straight-through: what a token gets is the layer's output; scaled: the layer's change times
    what the router says, as in the paper."""
    router_loss: float = 0.1
    """Weight of the routers' cross-entropy in the loss, beside the divergence from the model."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range, or asks for what an elastic model can't do.
        """
        super().__post_init__()
        if not 0 <= self.least <= self.most <= 1:
            raise ValueError(
                f"least={self.least} and most={self.most} must be shares, 0 <= least <= most <= 1"
            )
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold} must be from 0 to 1")
        if not 0 <= self.router_loss < math.inf:
            raise ValueError(f"router_loss={self.router_loss} must be a number, 0 or more")
        if self.export:
            raise ValueError(
                "export=True: a model with routers is in no form that other programs load; leave "
                "out --export"
            )


class DepthCurve(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Puts the curve of perplexity against depth into a run's folder when an episode ends.

    It is in summary.json under depth_curve, in depth.csv and in depth.png.

    Args:
        env: The run of an `ElasticTransformer`.
    """

    def __init__(self, env: RecordRun) -> None:
        super().__init__(env)
        self.record = env

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; after the last step of an episode, also evaluates."""
        result = self.env.step(action)
        if result[2] and not result[4]["diverged"]:
            inside: Any = innermost(self)
            rows = inside.once(self.curve)
            self.record.note(depth_curve=rows)
            write_curve(rows, self.record.folder)
        return result

    def curve(self) -> list[dict[str, float | str]]:
        """A row for each point: what was left out, how, the mean depth and losses in nats."""
        env: Any = self.unwrapped
        model = env.model
        assert isinstance(model, ElasticTransformer)
        threshold = model.threshold
        rows: list[dict[str, float | str]] = []
        for name, model.at_random in ((ROUTERS, False), (RANDOM, True)):
            for model.threshold in sorted({*THRESHOLDS, threshold}):
                figures = {"threshold": model.threshold}
                for split in ("validation", "test"):
                    figures |= _measured(model, split, getattr(env, f"{split}_loss"))
                rows.append({"curve": name, **figures})
        model.threshold, model.at_random = threshold, False
        for depth in range(1, model.n_layer + 1):
            of_depth: dict[str, float | str] = {"curve": REDUCED, "threshold": ""}
            for split in ("validation", "test"):
                loss = getattr(env, f"{split}_loss")(depth)
                of_depth |= {f"{split}_depth": float(depth), f"{split}_loss": loss}
            rows.append(of_depth)
        return rows


def _measured(
    model: ElasticTransformer, split: str, measure: Callable[[], float]
) -> dict[str, float]:
    model.tokens_run = model.tokens_seen = 0
    loss = measure()
    return {f"{split}_depth": model.tokens_run / model.tokens_seen, f"{split}_loss": loss}


def train(options: Options) -> Path:
    """Trains the routers; returns the run folder.

    Raises:
        InputError: If the run isn't finished, kept no model, or its model doesn't fit.
    """
    config = env_beside(options.run, options.env, dropout=0.0)
    kind = functools.partial(
        ElasticTransformer,
        least=options.least,
        most=options.most,
        gain=options.gain,
        router_loss=options.router_loss,
        threshold=options.threshold,
    )
    beside = functools.partial(FrozenWorkload, kind=kind)
    return train_frozen(options, config, "elastic-depth", beside, DepthCurve)


def write_curve(rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Writes depth.csv and depth.png.

    Args:
        rows: Of `DepthCurve.curve`.
        folder: Where to.
    """
    write_csv(rows, folder / "depth.csv")
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        point = (row["test_depth"], math.exp(row["test_loss"]))
        curves.setdefault(row["curve"], []).append(point)
    plot_depth_curve(curves, folder / "depth.png")


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else args
    run_program(Options, train, args, model_env(args))


if __name__ == "__main__":
    main()
