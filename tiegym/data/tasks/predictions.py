"""What a transformer predicted in an evaluation, kept until the metrics are asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tiegym.data.tasks.metrics import METRICS
from tiegym.data.tasks.task import IGNORED, Outputs


class Predictions:
    """Metrics of classes, scores or tokens; see `Metrics`.

    Args:
        names: Of `METRICS`.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Starts with none."""
        self._names = names
        self._predicted: list[Tensor] = []
        self._true: list[Tensor] = []

    def add(self, outputs: Outputs, targets: Tensor) -> None:
        """Keeps the most probable class of each target that isn't `IGNORED`; or the score."""
        logits = outputs["logits"].detach()
        if targets.is_floating_point():
            predicted = logits[..., 0].float()
        else:
            predicted = logits.argmax(-1)
            is_asked = targets != IGNORED
            predicted, targets = predicted[is_asked], targets[is_asked]
        self._predicted.append(predicted.cpu())
        self._true.append(targets.cpu())

    def figures(self) -> dict[str, float]:
        """Each metric by its name."""
        if not self._true:
            raise ValueError("no predictions were added: there is nothing to measure")
        predicted = torch.cat(self._predicted).numpy()
        true = torch.cat(self._true).numpy()
        return {name: METRICS[name](predicted, true) for name in self._names}
