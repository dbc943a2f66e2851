"""Where an episode stands, and a copy of everything that its future depends on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tiegym.config import TieConfig
from tiegym.ties import Ties

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Snapshot:
    """A copy of everything that an environment's future depends on; see `TieEnv.restore`."""

    tensors: dict[str, torch.Tensor]
    values: dict[str, Any]


@dataclass
class Episode:
    """Where an episode stands; all that an environment keeps besides its trainer."""

    seed: int
    loss: float
    """Last validation loss in nats, clipped to `divergence_loss`."""
    train_loss: float
    """Mean training loss in nats over the last step, clipped likewise."""
    stats: list[float]
    """The flat `layer_stats` of the last observation."""
    ties: list[int]
    layer: int = 0
    iteration: int = 0
    diverged: bool = False
    terminated: bool = False
    started: bool = False
    """Whether the trainer has been reset for this episode (`reset` is lazy)."""
    history: list[tuple[int, float]] = field(default_factory=list)
    """Iteration and validation perplexity after each step."""

    def advance(
        self,
        ties: Ties,
        train_losses: list[float],
        loss: float,
        stats: list[float],
        config: TieConfig,
    ) -> None:
        """Takes in what an environment step has done.

        Args:
            ties: The tie vector during its iterations, (L,).
            train_losses: Of each iteration, in nats.
            loss: Validation loss after them, in nats.
            stats: The flat `layer_stats`.
            config: Says when the episode ends.
        """
        ceiling = config.divergence_loss
        self.ties, self.stats = ties.tolist(), stats
        self.iteration += len(train_losses)
        if config.action == "layerwise" and config.n_layer > 1:
            self.layer = self.layer % (config.n_layer - 1) + 1
        self.diverged = not all(value <= ceiling for value in (*train_losses, loss))
        self.loss = ceiling if self.diverged else loss
        train_loss = sum(train_losses) / len(train_losses)
        self.train_loss = train_loss if train_loss <= ceiling else ceiling
        self.terminated = self.diverged or self.iteration >= config.max_iters
        self.history.append((self.iteration, math.exp(self.loss)))


def check_same(what: str, theirs: dict[str, Any], mine: dict[str, Any]) -> None:
    """Checks that a copy is of the configuration that is to go on from it.

    Args:
        what: The beginning of the message, such as "x.safetensors is a checkpoint".
        theirs: The resolved configuration of the copy.
        mine: That of the environment.

    Raises:
        ValueError: If they differ; the message names all that does.
    """
    different = sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
    if different:
        raise ValueError(
            f"{what} of another configuration; different are "
            + ", ".join(f"{k} ({theirs.get(k)!r} there, {mine.get(k)!r} here)" for k in different)
        )
