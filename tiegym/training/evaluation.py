"""The loss and the task's metrics over batches, without gradients."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tiegym.training.workload import Batch, Workload
from tiegym.transformer.tied_model import TiedModel


def on_batch(workload: Workload, model: TiedModel, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss of a batch in nats, a scalar on the device, and its metrics.

    Args:
        workload: Says what the loss is, and which metrics there are.
        model: In evaluation mode.
        batch: Of any size.
    """
    task = workload.task
    if not task.metric_names:
        return workload.loss(model, batch), {}
    inputs, targets = batch
    outputs: Any = workload.outputs(model, inputs)
    metrics = task.metrics()
    metrics.add(outputs, targets)
    return task.loss(outputs, targets), metrics.figures()


def on_test_split(
    workload: Workload, model: TiedModel, depth: int | None = None
) -> tuple[float, dict[str, float]]:
    """The loss in nats over the test split, the mean of all that is asked, and the metrics.

    Args:
        workload: As in `on_batch`.
        model: As in `on_batch`.
        depth: Layers that run, see `TiedTransformer.hidden`; None is all.
    """
    task = workload.task
    metrics, total, count = task.metrics(), 0.0, 0
    for batch in workload.test_batches():
        inputs, targets = batch
        asked = task.count(targets)
        if task.metric_names:
            outputs: Any = workload.outputs(model, inputs, depth)
            metrics.add(outputs, targets)
            loss = task.loss(outputs, targets)
        else:
            loss = workload.loss(model, batch, depth)
        total += loss.item() * asked
        count += asked
    return total / count, metrics.figures() if task.metric_names else {}
