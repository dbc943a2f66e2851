"""What an environment measures of its transformer as it stands: losses and the task's metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium

from tiegym.config import TieConfig
from tiegym.data.tasks.task import Task
from tiegym.episode import Episode
from tiegym.info import test_figures
from tiegym.training.entry import entry
from tiegym.training.trainer import Trainer


class Measured(gymnasium.Env[Any, Any]):
    """What of a `TieEnv` measures it."""

    config: TieConfig
    task: Task
    _known_episode: Callable[[], Episode]
    _started_trainer: Callable[[], Trainer]

    @entry
    def validation_loss(self, depth: int | None = None) -> float:
        """Loss in nats of the weights as they stand on the fixed validation batches.

        Args:
            depth: Layers that run, see `TiedTransformer.hidden`; None is all.
        """
        if self._known_episode().diverged:
            return self.config.divergence_loss
        return self._clipped(self._started_trainer().validation_loss(depth).item())

    @entry
    def test_loss(self, depth: int | None = None) -> float:
        """Loss in nats of the weights as they stand on the test split.

        An episode reads the test split once, at its end; a selection on it would be worth nothing.

        Args:
            depth: As in `validation_loss`.
        """
        if self._known_episode().diverged:
            return self.config.divergence_loss
        return self._clipped(self._started_trainer().test_loss(depth))

    @entry
    def test_metrics(self) -> dict[str, float]:
        """`test_perplexity`, what else is known of `test_loss`, and the task's metrics there.

        The entries of `info` that begin with test_; after a divergence metrics are 0.
        """
        loss, metrics = self.config.divergence_loss, dict[str, float]()
        if not self._known_episode().diverged:
            loss, metrics = self._started_trainer().test()
        return test_figures(self._clipped(loss), metrics, self.config, self.task)

    def _clipped(self, loss: float) -> float:
        """A loss in nats, or `divergence_loss` where it is higher, or not a number."""
        ceiling = self.config.divergence_loss
        return loss if loss <= ceiling else ceiling
