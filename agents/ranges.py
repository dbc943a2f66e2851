"""Which values the learning agents' numbers may have: one rule for each name, in every program."""

from __future__ import annotations

import math
from collections.abc import Callable

from tiegym.runs.options import RunOptions

Rule = tuple[Callable[[float], bool], str]

POSITIVE: Rule = (lambda value: value > 0, "above 0")
NOT_NEGATIVE: Rule = (lambda value: value >= 0, "0 or more")
AT_LEAST_ONE: Rule = (lambda value: value >= 1, "at least 1")
SHARE: Rule = (lambda value: 0 <= value <= 1, "from 0 to 1")

RULES: dict[str, Rule] = {
    **dict.fromkeys(("learning_rate", "clip_range", "reward_clip"), POSITIVE),
    **dict.fromkeys(("weight_decay", "learning_starts", "ent_coef"), NOT_NEGATIVE),
    **dict.fromkeys(("buffer_size", "batch_size", "gradient_steps"), AT_LEAST_ONE),
    **dict.fromkeys(("n_epochs", "lstm_size"), AT_LEAST_ONE),
    **dict.fromkeys(("gamma", "gae_lambda", "tau", "exploration_final_eps"), SHARE),
    "exploration_fraction": (lambda value: 0 < value <= 1, "above 0, and at most 1"),
    "n_steps": (lambda value: value >= 2, "at least 2"),  # advantages of a rollout are normalised
}


def check_ranges(options: RunOptions) -> None:
    """Checks the numbers that the options have.

    Raises:
        ValueError: If one is out of its range, naming it, its value and the range.
    """
    for name, (holds, allowed) in RULES.items():
        value = getattr(options, name, None)
        if value is not None and not (math.isfinite(value) and holds(value)):
            raise ValueError(f"{name}={value!r} must be {allowed}")
