"""How many layers each training iteration runs, where that isn't all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiegym import parts
from tiegym.ties import Ties
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.tied_model import TiedModel


def read_depths(
    model: TiedModel, ties: Ties, depths: Sequence[int] | None, start: int, iterations: int
) -> list[int | None]:
    """The depths of some iterations, as `TiedTransformer.hidden` takes them, (iterations,).

    Args:
        model: The transformer.
        ties: Those that it has in these iterations, (P L,).
        depths: Of each iteration of the episode; None is all layers in each.
        start: Iterations of the episode before these.
        iterations: How many.

    Raises:
        ValueError: If an iteration has no depth, or one that leaves weights out: all that train
            get a gradient in every iteration, so that all have moments. Or if the model is of
            another library, and runs all its layers.
    """
    if depths is None:
        return [None] * iterations
    if not isinstance(model, TiedTransformer):
        raise ValueError(f"depths={depths!r}: only model='gpt' runs other layers than all of them")
    given: Any = depths
    listed = isinstance(given, Sequence | np.ndarray) and not isinstance(given, str)
    chosen: list[Any] = [*given[start : start + iterations]] if listed else []
    whole = [isinstance(d, int | np.integer) and not isinstance(d, bool) for d in chosen]
    if not listed or not all(whole):
        raise ValueError(f"depths={depths!r:.80} must be whole numbers, one for each iteration")
    n_layer = model.n_layer
    least = n_layer if model.private else int(max(parts.roots(ties, n_layer) % n_layer)) + 1
    if len(chosen) < iterations or min(chosen) < least:
        raise ValueError(
            f"depths={chosen} must be {iterations}, one for each iteration, and at least {least}: "
            "fewer layers don't have all weights that train"
        )
    return [int(depth) for depth in chosen]
