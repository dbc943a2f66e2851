"""Progressive freezing: all layers train at first, then they are frozen from the bottom up.

    python -m baselines.progressive_freeze --rule freezeout --shape linear --start 0.5
    python -m baselines.progressive_freeze --rule autofreeze --percentile 70

freezeout (Brock et al. 2017, arXiv 1706.04983): layer i of L stops at an iteration that is known
beforehand. autofreeze (Liu et al. 2021, arXiv 2102.01386): a test at even intervals freezes layers
whose gradient's norm changes little beside those above them.

What of them isn't here: FreezeOut lets each layer's learning rate fall to zero along a cosine until
it stops, and here all layers have one rate (env.lr-decay); AutoFreeze sums up the gradients between
two tests, and here it is AdamW's moving mean of them; and since embeddings always train, the
backward pass still goes through frozen layers: what is saved is their gradients and moments.

It always runs with env.action=joint, env.choices=tie+freeze and env.initial-ties=independent,
whatever is given. Layers are frozen between environment steps: where env.iters-per-step doesn't
divide an iteration, at the next step after it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tiegym.config import TieConfig
from tiegym.policies.freezing import AutoFreeze, freeze_out, gradient_norms
from tiegym.policies.scheduled import ScheduledTies
from tiegym.runs.options import RunOptions
from tiegym.runs.program import Policy, open_run, run_policy, run_program
from tiegym.runs.record_checks import check_numbers
from tiegym.runs.replay import innermost

OF_RULE = {"freezeout": ("start", "shape"), "autofreeze": ("percentile", "tests")}
POWERS = {"linear": 1, "cubic": 3}


@dataclass(frozen=True)
class Options(RunOptions):
    """Train an untied transformer whose layers are frozen from the bottom up."""

    rule: Literal["freezeout", "autofreeze"] = "freezeout"
    """freezeout: by a plan; autofreeze: by how much the norms of gradients change."""
    start: float = 0.8
    """freezeout: t_0 of its paper, from 0 to 1. Layer i stops after t_0 + (1 - t_0) i / L of the
    iterations, or with shape=cubic after the cube of that."""
    shape: Literal["linear", "cubic"] = "cubic"
    """freezeout: see start."""
    percentile: float = 50.0
    """autofreeze: layers are frozen below the first one whose change reaches this percentile of
    the changes of all layers that train; 0 freezes nothing."""
    tests: int = 20
    """autofreeze: intervals in a run, at least 3, with a test between each two; the first test
    freezes nothing yet."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            ValueError: If one is out of range, or without effect.
        """
        super().__post_init__()
        if not 0 <= self.start <= 1:
            raise ValueError(f"start={self.start} must be a share, from 0 to 1")
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile={self.percentile} must be from 0 to 100")
        if self.tests < 3:
            raise ValueError(
                f"tests={self.tests} must be at least 3 intervals: between two of them there is "
                "one test, which has nothing to compare with yet"
            )
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for rule, names in OF_RULE.items():
            for name in names:
                value = getattr(self, name)
                if rule != self.rule and value != defaults[name]:
                    raise ValueError(
                        f"{name}={value!r} has no effect with rule={self.rule!r}: it belongs to "
                        f'"{rule}"'
                    )
        self.used_env()

    def used_env(self) -> TieConfig:
        """The environment: the given one, but for what freezing needs.

        Raises:
            ValueError: If they don't go together.
        """
        return dataclasses.replace(
            self.env, action="joint", choices="tie+freeze", initial_ties="independent"
        )


def train(options: Options) -> Path:
    """Trains and freezes; returns the run folder."""
    env_config = options.used_env()
    options = dataclasses.replace(options, env=env_config)
    n_layer, max_iters = env_config.n_layer, env_config.max_iters
    with open_run(options, f"progressive-freeze-{options.rule}") as env:
        policy: Policy
        if options.rule == "freezeout":
            plan = freeze_out(n_layer, max_iters, options.start, POWERS[options.shape])
            policy = ScheduledTies(plan, max_iters)
        else:
            inside: Any = innermost(env)

            def norms() -> list[float]:
                trained = env.unwrapped
                return gradient_norms(trained.model, trained.optimizer)  # type: ignore[attr-defined]

            policy = AutoFreeze(
                lambda: inside.once(norms, partial(check_numbers, count=n_layer)),
                max_iters,
                options.tests,
                options.percentile,
            )
        run_policy(env, policy, options.seed, options.steps)
    return env.folder


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
