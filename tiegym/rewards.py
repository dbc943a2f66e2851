"""Rewards, from the validation loss after an environment step. Pure functions of floats."""

from __future__ import annotations

import math
from typing import get_args

from tiegym.config import Reward


def reward(
    kind: Reward,
    loss: float,
    previous_loss: float,
    independent_share: float = 1.0,
    param_cost: float = 0.0,
    previous_share: float = 1.0,
) -> float:
    """The reward of one environment step.

    Args:
        kind: "neg_log_ppl": -loss. "neg_ppl": -exp(loss), the paper's. "delta_log_ppl":
            previous_loss - loss. "ppl_params": -loss - param_cost * independent_share.
            "delta_ppl_params": previous_loss - loss - param_cost * (independent_share -
            previous_share), whose sum over an episode is the fall of the loss less the price of
            the size at the end.
        loss: Validation loss in nats a token.
        previous_loss: The same one step before; ln(vocabulary size) at first.
        independent_share: Independent layers over all layers; or parts of layers, where these
            share weights apart.
        param_cost: Price in nats of an independent share of 1.
        previous_share: The share one step before; that of the initial ties at first.

    Raises:
        ValueError: If `kind` is unknown.
    """
    if kind == "neg_log_ppl":
        return -loss
    if kind == "neg_ppl":
        return -math.exp(loss)
    if kind == "delta_log_ppl":
        return previous_loss - loss
    if kind == "ppl_params":
        return -loss - param_cost * independent_share
    if kind == "delta_ppl_params":
        return previous_loss - loss - param_cost * (independent_share - previous_share)
    raise ValueError(f"reward={kind!r} is unknown: choose {', '.join(get_args(Reward))}")
