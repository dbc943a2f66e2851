"""Where an episode stands, and a copy of everything that its future depends on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
