"""The loss and the task's metrics over batches, without gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tiegym.training import collectives
from tiegym.training.parallel import Ranks
from tiegym.training.workload import Batch, Workload
from tiegym.transformer.tied_model import TiedModel


def on_batch(workload: Workload, model: TiedModel, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch in nats, a scalar on the device, and the task's metrics.

    Args:
        workload: Says what the loss is, and which metrics there are.
        model: In evaluation mode.
        batch: Of any size.
    """
    task = workload.task
    inputs, targets = batch
    outputs: Any = workload.outputs(model, inputs)
    metrics = task.metrics()
    metrics.add(outputs, targets)
    return task.loss(outputs, targets), metrics.figures()


def on_test_split(workload: Workload, model: TiedModel) -> tuple[float, dict[str, float]]:
    """The loss in nats over the test split, the mean of all that is asked, and the metrics.

    Arguments as of `on_batch`.
    """
    task = workload.task
    metrics, total, count = task.metrics(), 0.0, 0
    for inputs, targets in workload.test_batches():
        outputs: Any = workload.outputs(model, inputs)
        metrics.add(outputs, targets)
        asked = task.count(targets)
        total += task.loss(outputs, targets).item() * asked
        count += asked
    return total / count, metrics.figures()


def loss_on_test_split(
    workload: Workload, model: TiedModel, depth: int | None = None, ranks: Ranks | None = None
) -> float:
    """The loss alone, by what is cheapest for the model.

    Args:
        workload: As in `on_batch`.
        model: As in `on_batch`.
        depth: Layers that run, see `TiedTransformer.hidden`; None is all.
        ranks: Among which the batches are divided; None is this process alone.
    """
    total, count = 0.0, 0
    for k, batch in enumerate(workload.test_batches()):
        if ranks is not None and k % ranks.size != ranks.rank:
            continue
        asked = workload.task.count(batch[1])
        total += workload.loss(model, batch, depth).item() * asked
        count += asked
    if ranks is not None:
        sums = torch.tensor([total, count], dtype=torch.float64, device=workload.device)
        total, count = collectives.total(sums).tolist()
    return total / count
