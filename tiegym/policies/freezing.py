"""Progressive freezing: layers that train at first stop from the bottom up, by a plan or a test.

For action="joint" with choices="tie+freeze", all layers independent. The parts of a layer are
frozen together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tiegym.actions import Actions
from tiegym.policies.scheduled import Plan
from tiegym.transformer.tied_model import TiedModel

Norms = npt.NDArray[np.float64]
"""Of the gradient of each layer, (L,)."""


def freeze_out(n_layer: int, max_iters: int, start: float = 0.8, power: int = 3) -> Plan:
    """FreezeOut's plan (Brock et al. 2017, arXiv 1706.04983): layer i is frozen at a known time.

    That is after (start + (1 - start) i / L)^power of the iterations. The head, which always
    trains, has the place of layer L. FreezeOut also lets the learning rate of each layer fall
    along a cosine to zero at that time; here all layers have one learning rate.

    Args:
        n_layer: Layers L.
        max_iters: Iterations in an episode.
        start: From 0 to 1; t_0 of the paper, before the power is taken.
        power: 1 is the paper's linear plan, 3 its cubic one.
    """
    choices = np.arange(n_layer)
    plan = [(0, choices)]
    for layer in range(n_layer):
        share = (start + (1 - start) * layer / n_layer) ** power
        choices = choices.copy()
        choices[layer] = layer + 1  # frozen, see tiegym.actions
        plan.append((round(share * max_iters), choices))
    return plan


class AutoFreeze:
    """The policy that freezes layers by AutoFreeze's test (Liu et al. 2021, arXiv 2102.01386).

    At even intervals the change of each layer's gradient norm since the last test, relative to that
    norm, is held against a percentile of those of all layers that train. What lies below the first
    layer that reaches it is frozen. So the last layer always trains.

    Args:
        norms: Gives the norms of the layers' gradients as they stand, (L,), such as
            `gradient_norms`.
        max_iters: Iterations in an episode.
        tests: Intervals in an episode. The first test only remembers, and the end has none.
        percentile: From 0, which freezes nothing, to 100.
    """

    def __init__(
        self,
        norms: Callable[[], Sequence[float]],
        max_iters: int,
        tests: int = 20,
        percentile: float = 50.0,
    ) -> None:
        """Remembers them."""
        self.norms = norms
        self.max_iters = max_iters
        self.tests = tests
        self.percentile = percentile

    def predict(
        self,
        observation: dict[str, Any],
        state: tuple[int, Norms | None] | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, Any]:
        """Freezes what the test says; its state is how many intervals went by, and the norms."""
        n_parts = 2 if "part" in observation else 1
        layers = np.arange(len(observation["ties"]) // n_parts)
        first = int(observation["frozen"][: len(layers)].sum())
        if state is None or np.any(episode_start):
            state = 0, None
        passed, before = state
        iteration = round(float(observation["budget"][0]) * self.max_iters)
        if (now := iteration * self.tests // self.max_iters) > passed:
            norms = np.array(self.norms(), dtype=np.float64)
            if before is not None:
                first = first_to_train(before, norms, first, self.percentile)
            state = now, norms
        actions = Actions("joint", len(layers), n_parts, freeze=True)
        return actions.choose_all(np.tile(layers + (layers < first), n_parts)), state


def first_to_train(before: Norms, now: Norms, first: int, percentile: float) -> int:
    """The lowest layer that goes on training after AutoFreeze's test.

    Args:
        before: Gradient norms at the last test, (L,).
        now: Those at this one, (L,).
        first: The lowest layer that has trained until now.
        percentile: Of the relative changes of the layers from `first` on.
    """
    least = np.finfo(np.float64).tiny
    change = np.abs(now - before)[first:] / before[first:].clip(least)
    return first + int(np.argmax(change >= np.percentile(change, percentile)))


def gradient_norms(model: TiedModel, optimizer: torch.optim.AdamW) -> list[float]:
    """The sums of magnitudes (l1 norms) of each layer's mean gradient, (L,); 0 where it is frozen.

    AutoFreeze sums up the gradients of an interval. The mean here is AdamW's, its first moment
    without its bias to zero: it weighs the last iterations most (with beta_1 = 0.9 the last ten
    have 65 %), of gradients as they were clipped. It is part of every checkpoint.
    """
    n_layer = model.n_layer
    norms = torch.zeros(n_layer, dtype=torch.float64)
    (group,) = optimizer.param_groups
    for unit in set(model.roots):
        for parameter in model.independent(unit).parameters():
            if state := optimizer.state.get(parameter):
                bias = 1 - group["betas"][0] ** state["step"].item()
                norms[unit % n_layer] += state["exp_avg"].abs().sum().item() / bias
    result: list[float] = norms.tolist()
    return result
