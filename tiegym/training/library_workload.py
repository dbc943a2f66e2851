"""Any task with a model of the library `transformers`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from tiegym.config import TieConfig
from tiegym.data.tasks.task import Outputs, Task, TaskData
from tiegym.ties import Ties
from tiegym.training.resolve import check_uniform_loss
from tiegym.training.workload import Batch, Inputs, Workload
from tiegym.transformer.library_model import make_model, make_plan
from tiegym.transformer.library_weights import read_pretrained, take_over
from tiegym.transformer.pretrained import TiedPretrainedModel
from tiegym.transformer.tied_model import TiedModel


class LibraryWorkload(Workload):
    """A `TiedPretrainedModel` on a task; inputs are keyword arguments of its forward pass.

    Args:
        config: With another model than "gpt".
        task: What `tiegym.data.tasks.load.load_task` gave.

    Raises:
        ValueError: If model and task don't fit, or the device isn't there.
        OSError: If a pretrained model isn't there.
    """

    data: TaskData
    all_used = False

    def __init__(self, config: TieConfig, task: Task) -> None:
        """Copies the data to the device; the weights of a pretrained model are read now."""
        super().__init__(config, task)
        check_uniform_loss(config, task.uniform_loss)
        self.plan = make_plan(config, task, self.dtype)
        two = getattr(self.plan.config, "type_vocab_size", 0) > 1
        self._ignored = () if two else ("token_type_ids",)
        kinds = self.plan.layers.unit_kinds
        self.kinds = kinds if len(set(self.plan.layers.kinds)) > 1 else None
        pretrained = config.model.startswith("hf:")
        self._source = read_pretrained(config, self.plan) if pretrained else None
        self.data = task.data(self.device)

    @property
    def given_weights(self) -> dict[str, Tensor] | None:
        """Those of a pretrained model, of all layers."""
        return self._source

    def make(self, ties: Ties, dropout: torch.Generator) -> TiedPretrainedModel:
        """See `Workload`; the library's dropout draws from the global generator alone."""
        return make_model(
            self.plan,
            ties,
            self.device,
            self.dtype,
            tie_grad=self.config.tie_grad,
            compute_dtype=self.compute_dtype,
            checkpoint_activations=self.config.checkpoint_activations,
            private_norms=self.config.private == "norms",
        )

    def begin(self, model: TiedModel, seed: int, batches: torch.Generator) -> None:
        """See `Workload`."""
        model = _library_s(model)
        model.initialize(seed)
        if self._source is not None:
            take_over(model, self._source, self.config.merge)

    def sample(self, split: str, n: int, generator: torch.Generator) -> Batch:
        """See `Workload`."""
        return self.data.sample(split, n, generator)

    def test_batches(self) -> Iterator[Batch]:
        """See `Workload`."""
        config = self.config
        at_a_time, limit = config.batch_size * config.eval_batches, config.test_tokens
        return self.data.batches("test", at_a_time, limit)

    def outputs(self, model: TiedModel, inputs: Inputs, depth: int | None = None) -> Outputs:
        """The library's mapping, with `logits` and the like."""
        if depth is not None:
            raise ValueError(
                f"depth={depth}: a model of transformers runs all its layers, each once; only "
                'model="gpt" runs others'
            )
        assert isinstance(inputs, dict)
        taken = {name: value for name, value in inputs.items() if name not in self._ignored}
        outputs: Any = _library_s(model)(**taken)
        return outputs  # type: ignore[no-any-return]

    def loss(self, model: TiedModel, batch: Batch, depth: int | None = None) -> Tensor:
        """See `Workload`."""
        inputs, targets = batch
        return self.task.loss(self.outputs(model, inputs, depth), targets)

    def lends_dropout(self, model: TiedModel) -> bool:
        """Always: what else a model of the library may draw comes from there, too."""
        return True

    def parameter_sizes(self, ties: Ties) -> dict[str, tuple[int, ...]]:
        """See `Workload`."""
        return self.plan.parameter_sizes(ties)

    def dtype_of(self, name: str) -> torch.dtype:
        """See `Workload`."""
        return self.plan.dtypes[name]

    @property
    def buffer_sizes(self) -> dict[str, tuple[int, ...]]:
        """See `Workload`."""
        return self.plan.buffers

    def stored_bytes(self, ties: Ties) -> int:
        """See `Workload`."""
        return self.plan.stored_bytes(ties)

    def without_moments(self, ties: Ties, frozen: Sequence[bool] | None = None) -> set[str]:
        """See `Workload`."""
        each = zip(self.plan.layers.shared_names, frozen or (), strict=False)
        still = {f"library.{name}" for names, flag in each if flag for name in names}
        return still | self.plan.constant

    def trainable_params(self, n_independent: int, n_mlp: int | None = None) -> int:
        """See `Workload`."""
        return self.plan.trainable(n_independent, n_mlp)[0]

    def expected_state_bytes(self, n_independent: int, n_mlp: int | None = None) -> int:
        """See `Workload`: weights, gradients, AdamW's two moments and its counts."""
        _, nbytes, tensors = self.plan.trainable(n_independent, n_mlp)
        constant = self.plan.nbytes(self.plan.constant)
        return 4 * nbytes + tensors * torch.float32.itemsize + constant


def _library_s(model: TiedModel) -> TiedPretrainedModel:
    assert isinstance(model, TiedPretrainedModel)
    return model
