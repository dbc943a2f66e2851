"""How a trainer evaluates its transformer; over batches, see `tiegym.training.evaluation`."""

from __future__ import annotations

import torch
from torch import Tensor

from tiegym.training import collectives, evaluation, parallel
from tiegym.training.workload import Batch, Workload
from tiegym.transformer.isolation import isolated
from tiegym.transformer.tied_model import TiedModel


class Evaluated:
    """What of a `Trainer` evaluates."""

    workload: Workload
    model: TiedModel
    validation_set: Batch
    ranks: parallel.Ranks | None

    @parallel.told
    @isolated
    @torch.inference_mode()
    def validation_loss(self, depth: int | None = None) -> Tensor:
        """Loss in nats on the fixed validation set, a float32 scalar; no autograd.

        Args:
            depth: Layers that run, see `TiedTransformer.hidden`; None is all.
        """
        self.model.eval()
        batch, times = parallel.share(self.validation_set, self.ranks, self.workload.count)
        loss = self.workload.loss(self.model, batch, depth)
        return loss if self.ranks is None else collectives.total(loss / times)

    @isolated
    @torch.inference_mode()
    def validate(self) -> tuple[Tensor, dict[str, float]]:
        """`validation_loss` and the task's metrics on the same set, which wait for the device.

        Where there are metrics, a rank computes both for itself, on the whole set.
        """
        if not self.workload.task.metric_names:
            return self.validation_loss(), {}
        self.model.eval()
        loss, metrics = evaluation.on_batch(self.workload, self.model, self.validation_set)
        if self.ranks is not None and not self.ranks.led:
            collectives.copy_from_first([loss])  # it decides whether the episode goes on
        return loss, metrics

    @parallel.told
    @isolated
    @torch.inference_mode()
    def test_loss(self, depth: int | None = None) -> float:
        """Loss in nats over the test split, or `test_tokens` spread evenly over it.

        Args:
            depth: As in `validation_loss`.
        """
        if self.ranks is not None:
            parallel.check_in_step(self.model.parameters())
        self.model.eval()
        return evaluation.loss_on_test_split(self.workload, self.model, depth, self.ranks)

    @isolated
    @torch.inference_mode()
    def test(self) -> tuple[float, dict[str, float]]:
        """`test_loss` and the task's metrics, in one pass over the test split; see `validate`."""
        if not self.workload.task.metric_names:
            return self.test_loss(None), {}
        self.model.eval()
        return evaluation.on_test_split(self.workload, self.model)
