"""Training one tied transformer on a task: iterations, evaluation, and the state of both.

The trainer owns its random generators. It neither reads nor advances the global ones. In a process
group of PyTorch's it is one of several that train the same transformer: every method is then called
on all ranks, with the same arguments. See `tiegym.training.parallel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiegym.config import TieConfig
from tiegym.data.corpora import Corpus
from tiegym.data.tasks.task import Task
from tiegym.ties import Ties
from tiegym.training import collectives, parallel
from tiegym.training.depths import read_depths
from tiegym.training.evaluated import Evaluated
from tiegym.training.load import make_workload
from tiegym.training.schedule import rate_factor, scheduled
from tiegym.training.weights_and_moments import forget, named_tensors, put_back
from tiegym.training.workload import Batch, named, resolved_config, rows, unnamed
from tiegym.transformer import tying
from tiegym.transformer.isolation import isolated
from tiegym.transformer.position_gradients import PositionGradients, watching
from tiegym.transformer.streams import lent
from tiegym.transformer.tied_model import TiedModel


class Trainer(Evaluated):
    """One transformer, its optimiser, its data and its random streams.

    `reset` must be called before anything else. Weights, compiled code and data are kept across
    resets.

    Args:
        config: All sizes and values.
        data: What `tiegym.training.load.load_data` gives for them.

    Raises:
        ValueError: If data and model don't fit, the device isn't there, or the initial weights
            don't fit; or if it is one of several ranks, and these differ, or the batch can't be
            divided among them.
        OSError: If a pretrained model can't be read.
    """

    model: TiedModel
    optimizer: torch.optim.AdamW

    @isolated
    def __init__(self, config: TieConfig, data: Corpus | Task) -> None:
        """Copies the data to the device; the weights come with `reset`."""
        self.config = config
        self.ranks = parallel.current_ranks()
        """The processes that train together; None is this one alone."""
        self.added_up_bytes = 0
        """Bytes of gradients that the ranks added up in the last iteration."""
        if self.ranks is not None:
            parallel.check_batch(config.batch_size, config.grad_accum, self.ranks)
        self.workload = make_workload(config, data)
        self.device = self.workload.device
        self._batches = torch.Generator(self.device)
        self._dropout = torch.Generator(self.device)
        self._join()

    def _join(self) -> None:
        """Makes this one of the trainers of all ranks, if there are others."""
        if self.ranks is None:
            return
        found = resolved_config(self.workload)
        with parallel.made(self, self.config):
            parallel.check_ranks(self.ranks, self.device, found)

    @property
    def built(self) -> bool:
        """Whether there is a model yet."""
        return hasattr(self, "model")

    @parallel.told
    @isolated
    def reset(self, seed: int, ties: Ties) -> None:
        """Starts a new training run.

        Args:
            seed: Fixes initial weights, batch order, dropout and evaluation batches, each with a
                stream of its own: none depends on the ties.
            ties: The tie vector to begin with, shape (L,).
        """
        weights, batches, dropout, validation = np.random.default_rng(seed).integers(2**48, size=4)
        self._build(ties)
        forget(self.model, self.optimizer)
        self.hyperparameters = self.optimizer.defaults
        self._batches.manual_seed(int(batches))
        self.workload.begin(self.model, int(weights), self._batches)
        self._batches.manual_seed(int(batches))
        self._dropout.manual_seed(int(dropout))
        self._draw_validation_set(int(validation))
        if self.ranks is not None:
            collectives.copy_from_first(self.model.parameters())

    def _build(self, ties: Ties, frozen: Sequence[bool] | None = None) -> None:
        """Makes model and optimiser for these ties, or reuses their memory; values come later."""
        if not self.built:
            self._make(ties)
        tying.reuse_blocks(self.model, self.optimizer, ties, frozen)

    def _make(self, ties: Ties) -> None:
        self.model = self.workload.make(ties, self._dropout)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )

    def _draw_validation_set(self, seed: int) -> None:
        generator = torch.Generator(self.device)
        generator.manual_seed(seed)
        n_rows = self.config.eval_batches * self.config.batch_size
        self.validation_set = self.workload.sample("validation", n_rows, generator)

    @parallel.told
    @isolated
    def retie(self, ties: Ties, frozen: Sequence[bool] | None = None) -> None:
        """Puts a tie vector into force; see `tiegym.transformer.tying.retie`."""
        soft = self.config.tie_change == "soft"
        before = self.model.roots
        tying.retie(self.model, self.optimizer, ties, frozen, soft)
        if soft and self.ranks is not None and self.model.roots != before:
            # What an SVD finds may depend on the processor.
            collectives.copy_from_first(self.model.parameters())

    @parallel.told
    @isolated
    def train(
        self,
        iterations: int,
        start: int = 0,
        depths: Sequence[int] | None = None,
        positions: PositionGradients | None = None,
    ) -> Tensor:
        """Runs training iterations; returns their losses in nats, float32 (iterations,).

        Args:
            iterations: How many.
            start: Iterations of the episode before these, for the learning rate's schedule.
            depths: Layers that each iteration of the episode runs, see `TiedTransformer.hidden`;
                None is all.
            positions: What gets the gradients of single positions in the last of them.

        Nothing waits for the device: reading the losses does. The last gradients are kept until
        the next iteration.

        Raises:
            ValueError: As `tiegym.training.depths.read_depths`.
        """
        config = self.config
        depth = read_depths(self.model, self.model.ties, depths, start, iterations)
        self.model.train()
        size = config.batch_size
        batch = self.workload.sample("train", iterations * size, self._batches)
        parameters = list(self.model.parameters())
        losses = torch.empty(iterations, dtype=torch.float32, device=self.device)
        lends = self.workload.lends_dropout(self.model)
        own = parallel.own_stream(self._dropout, self.ranks)
        with own, lent(self._dropout) if lends else nullcontext():
            for i in range(iterations):
                self.optimizer.zero_grad(set_to_none=True)
                with watching(self.model, positions if i == iterations - 1 else None):
                    loss = self._backward(rows(batch, i * size, (i + 1) * size), depth[i])
                if self.ranks is not None:
                    messages = collectives.messages_of(self.model, self.workload.all_used)
                    self.added_up_bytes = collectives.add_up_gradients(messages)
                if config.grad_clip:
                    torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip)
                with scheduled(self.optimizer, rate_factor(config, start + i)):
                    self.optimizer.step()
                losses[i] = loss
        if self.ranks is not None:
            others = [] if positions is None else positions.kept()
            collectives.add_up([losses, *others])
        return losses

    def _backward(self, batch: Batch, depth: int | None) -> Tensor:
        """Leaves the gradients of a batch, and returns its loss without a graph.

        Of several ranks each leaves and returns what its rows contribute.
        """
        n, losses = self.config.grad_accum, []
        size = self.config.batch_size // n
        for k in range(n):
            micro_batch = rows(batch, k * size, (k + 1) * size)
            micro_batch, times = parallel.share(micro_batch, self.ranks, self.workload.count)
            loss = self.workload.loss(self.model, micro_batch, depth) / (n * times)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def trainable_params(self, n_independent: int, n_mlp: int | None = None) -> int:
        """Parameters that train where so many layers are independent and train.

        Arguments as of `tiegym.transformer.block.Shape.params`.
        """
        return self.workload.trainable_params(n_independent, n_mlp)

    def expected_state_bytes(self, n_independent: int, n_mlp: int | None = None) -> int:
        """Bytes of model state that so many independent layers will take, without building any.

        Arguments as of `trainable_params`.
        """
        return self.workload.expected_state_bytes(n_independent, n_mlp)

    @isolated
    def state(self) -> dict[str, Tensor]:
        """Everything that the next iteration depends on: the tensors themselves, not copies."""
        tensors = {
            "rng.batches": self._batches.get_state(),
            "rng.dropout": self._dropout.get_state(),
        }
        tensors |= named("validation", self.validation_set)
        return tensors | named_tensors(self.model, self.optimizer)

    @parallel.told
    @isolated
    def load_state(
        self, ties: Ties, tensors: dict[str, Tensor], frozen: Sequence[bool] | None = None
    ) -> None:
        """Takes over copies of another trainer's `state`, in place where tensors are there.

        Args:
            ties: The tie vector of that state, shape (L,).
            tensors: What `state` returned; from a file, check them with
                `tiegym.training.state.check_state` first.
            frozen: Which units were frozen, as in `retie`.
        """
        if self.ranks is not None and self.ranks.led:
            tensors = collectives.tensors_from_first(tensors)
        self._take_over(ties, tensors, frozen)

    def _take_over(
        self, ties: Ties, tensors: dict[str, Tensor], frozen: Sequence[bool] | None
    ) -> None:
        self._build(ties, frozen)
        self._batches.set_state(tensors["rng.batches"].cpu())
        self._dropout.set_state(tensors["rng.dropout"].cpu())
        self.validation_set = unnamed("validation", tensors, self.device)
        put_back(self.model, self.optimizer, tensors)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The optimiser's learning rate and the like, plain values: part of the state.

        They may be changed while a run is on, and go with it into forks, snapshots and checkpoints.
        `reset` puts back those of the configuration.
        """
        (group,) = self.optimizer.param_groups
        return {name: _plain(value) for name, value in group.items() if name != "params"}

    @hyperparameters.setter
    def hyperparameters(self, values: dict[str, Any]) -> None:
        (group,) = self.optimizer.param_groups
        known = {"params", *self.optimizer.defaults, *values}
        for name in group.keys() - known:  # what a schedule had put there for itself
            del group[name]
        group.update(values)

    @parallel.told
    @isolated
    def fork(self) -> Trainer:
        """An independent trainer that goes on from here; both share the tokens, which are fixed."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._batches = torch.Generator(self.device)
        twin._dropout = torch.Generator(self.device)
        parallel.give_number(twin)
        if self.built:
            del twin.model, twin.optimizer
            twin._take_over(self.model.ties, self.state(), self.model.frozen)
            twin.hyperparameters = self.hyperparameters
        return twin

    def __copy__(self) -> Trainer:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> Trainer:
        return self.fork()


def _plain(value: Any) -> Any:
    """A number of the optimiser's as Python's own, whoever set it; others as they are."""
    if isinstance(value, tuple | list):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, Tensor | np.generic) else value
