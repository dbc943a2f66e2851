"""Training one tied transformer on a corpus: iterations, evaluation, and the state of both.

The trainer owns its random generators. It neither reads nor advances the global ones.
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
from tiegym.data.token_data import TokenData
from tiegym.ties import Ties
from tiegym.training.depths import read_depths
from tiegym.training.initial_weights import read_weights, take_over
from tiegym.training.resolve import (
    check_corpus,
    resolve_device,
    resolve_dtype,
    resolve_loss_chunk,
    transformer_shape,
)
from tiegym.training.schedule import rate_factor, scheduled
from tiegym.transformer import tying
from tiegym.transformer.admin import balance_branches
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.isolation import isolated
from tiegym.transformer.position_gradients import PositionGradients, watching
from tiegym.transformer.streams import lent


class Trainer:
    """One transformer, its optimiser, its data and its random streams.

    `reset` must be called before anything else. Weights, compiled code and data are kept across
    resets.

    Args:
        config: All sizes and values.
        corpus: The tokens; each split large enough for a batch (`check_corpus`).

    Raises:
        ValueError: If the corpus is too small, the device isn't there, or the initial weights don't
            fit.
    """

    model: TiedTransformer
    optimizer: torch.optim.AdamW

    @isolated
    def __init__(self, config: TieConfig, corpus: Corpus) -> None:
        """Copies the tokens to the device; the weights come with `reset`."""
        check_corpus(config, corpus)
        self.config = config
        self.device = resolve_device(config.device)
        self.shape = transformer_shape(config, corpus)
        path = config.initial_weights
        self._source = None if path is None else read_weights(path, self.shape, corpus.tokenizer)
        self.data = TokenData(corpus, self.device)
        self._batches = torch.Generator(self.device)
        self._dropout = torch.Generator(self.device)

    @property
    def built(self) -> bool:
        """Whether there is a model yet."""
        return hasattr(self, "model")

    @isolated
    def reset(self, seed: int, ties: Ties) -> None:
        """Starts a new training run.

        Args:
            seed: Fixes initial weights, batch order, dropout and evaluation batches, each with a
                stream of its own: none depends on the ties.
            ties: The tie vector to begin with, shape (L,).
        """
        weights, batches, dropout, evaluation = np.random.default_rng(seed).integers(2**48, size=4)
        self._build(ties)
        moments = self.optimizer.state
        if any(p not in moments for p in self.model.parameters()):  # all have some, or none has
            moments.clear()
        for state in moments.values():  # as good as new, without a new allocation
            for value in state.values():
                value.zero_()
        self.hyperparameters = self.optimizer.defaults
        self.model.initialize(int(weights), self.config.residual_scale)
        if self._source is not None:
            take_over(self.model, self._source)
        if self.config.init == "admin":
            size = (self.config.batch_size, self.config.block_size)
            inputs, _ = self.data.sample("train", *size, self._batches.manual_seed(int(batches)))
            balance_branches(self.model, inputs)
        self._batches.manual_seed(int(batches))
        self._dropout.manual_seed(int(dropout))
        self._draw_validation_set(int(evaluation))

    def _build(self, ties: Ties, frozen: Sequence[bool] | None = None) -> None:
        """Makes model and optimiser for these ties, or reuses their memory; values come later."""
        if not self.built:
            self._make(ties)
        tying.reuse_blocks(self.model, self.optimizer, ties, frozen)

    def _make(self, ties: Ties) -> None:
        dtype, compute_dtype = resolve_dtype(self.config.dtype, self.device)
        self.model = TiedTransformer(
            self.shape,
            ties,
            tie_grad=self.config.tie_grad,
            dropout=self.config.dropout,
            device=self.device,
            dtype=dtype,
            compute_dtype=compute_dtype,
            compile=self.config.compile,
            checkpoint_activations=self.config.checkpoint_activations,
            loss_chunk=resolve_loss_chunk(
                self.config.loss_chunk, self.shape.vocab_size, self.device
            ),
        )
        self.model.dropout_generator = self._dropout
        if self.config.embeddings == "frozen":
            self.model.token_embedding.requires_grad_(False)
            self.model.position_embedding.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            [p for p in self.model.parameters() if p.requires_grad],
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )

    def _draw_validation_set(self, seed: int) -> None:
        generator = torch.Generator(self.device)
        generator.manual_seed(seed)
        self.validation_set = self.data.sample(
            "validation",
            self.config.eval_batches * self.config.batch_size,
            self.config.block_size,
            generator,
        )

    @isolated
    def retie(self, ties: Ties, frozen: Sequence[bool] | None = None) -> None:
        """Puts a tie vector into force; see `tiegym.transformer.tying.retie`."""
        soft = self.config.tie_change == "soft"
        tying.retie(self.model, self.optimizer, ties, frozen, soft)

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
        depth = read_depths(self.model, depths, start, iterations)
        self.model.train()
        inputs, targets = (
            batch.view(iterations, config.batch_size, config.block_size)
            for batch in self.data.sample(
                "train", iterations * config.batch_size, config.block_size, self._batches
            )
        )
        parameters = list(self.model.parameters())
        losses = torch.empty(iterations, dtype=torch.float32, device=self.device)
        fused = config.dropout > 0 and self.model.fused_dropout
        with lent(self._dropout) if fused else nullcontext():
            for i in range(iterations):
                self.optimizer.zero_grad(set_to_none=True)
                with watching(self.model, positions if i == iterations - 1 else None):
                    loss = self._backward(inputs[i], targets[i], depth[i])
                if config.grad_clip:
                    torch.nn.utils.clip_grad_norm_(parameters, config.grad_clip)
                with scheduled(self.optimizer, rate_factor(config, start + i)):
                    self.optimizer.step()
                losses[i] = loss
        return losses

    def _backward(self, inputs: Tensor, targets: Tensor, depth: int | None) -> Tensor:
        """Leaves the gradients of a batch, (B, T) both, and returns its loss without a graph."""
        n, losses = self.config.grad_accum, []
        for micro_batch in zip(inputs.chunk(n), targets.chunk(n), strict=True):
            loss = self.model.loss(*micro_batch, depth) / n
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    @isolated
    @torch.inference_mode()
    def validation_loss(self, depth: int | None = None) -> Tensor:
        """Loss in nats on the fixed validation set, a float32 scalar; no autograd.

        Args:
            depth: Layers that run, see `TiedTransformer.hidden`; None is all.
        """
        self.model.eval()
        return self.model.loss(*self.validation_set, depth)

    @isolated
    @torch.inference_mode()
    def test_loss(self, depth: int | None = None) -> float:
        """Loss in nats a token over the test split, or `test_tokens` spread evenly over it.

        Args:
            depth: As in `validation_loss`.
        """
        self.model.eval()
        config = self.config
        total, count = 0.0, 0
        for inputs, targets in self.data.windows(
            "test", config.block_size, config.batch_size * config.eval_batches, config.test_tokens
        ):
            total += self.model.loss(inputs, targets, depth).item() * targets.numel()
            count += targets.numel()
        return total / count

    def trainable_params(self, n_independent: int, n_mlp: int | None = None) -> int:
        """Parameters that train where so many layers are independent and train.

        Arguments as of `tiegym.transformer.block.Shape.params`.
        """
        return self.shape.params(n_independent, n_mlp) - self._frozen_embeddings

    def expected_state_bytes(self, n_independent: int, n_mlp: int | None = None) -> int:
        """Bytes of model state that so many independent layers will take, without building any.

        Arguments as of `trainable_params`.
        """
        dtype, _ = resolve_dtype(self.config.dtype, self.device)
        state = tying.expected_state_bytes(self.shape, n_independent, dtype, n_mlp)
        if frozen := self._frozen_embeddings:  # two tensors without gradients, moments and counts
            state -= 3 * frozen * dtype.itemsize + 2 * torch.float32.itemsize
        return state

    @property
    def _frozen_embeddings(self) -> int:
        """Numbers in the embeddings that train no more."""
        shape = self.shape
        numbers = (shape.vocab_size + shape.block_size) * shape.n_embd
        return numbers if self.config.embeddings == "frozen" else 0

    @isolated
    def state(self) -> dict[str, Tensor]:
        """Everything that the next iteration depends on: the tensors themselves, not copies."""
        tensors = {
            "rng.batches": self._batches.get_state(),
            "rng.dropout": self._dropout.get_state(),
        }
        tensors["validation.inputs"], tensors["validation.targets"] = self.validation_set
        for name, p in self.model.named_parameters():
            tensors[f"model.{name}"] = p.detach()
            for key, value in self.optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value
        return tensors

    @isolated
    @torch.no_grad()
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
        self._build(ties, frozen)
        self._batches.set_state(tensors["rng.batches"].cpu())
        self._dropout.set_state(tensors["rng.dropout"].cpu())
        self.validation_set = (
            tensors["validation.inputs"].to(self.device, copy=True),
            tensors["validation.targets"].to(self.device, copy=True),
        )
        for name, p in self.model.named_parameters():
            p.copy_(tensors[f"model.{name}"])
            if not p.requires_grad:
                continue
            mine = self.optimizer.state[p]
            for key in ("step", "exp_avg", "exp_avg_sq"):
                saved = tensors.get(f"optimizer.{key}.{name}")
                if saved is None:  # before the first iteration
                    mine.clear()
                elif key in mine:
                    mine[key].copy_(saved)
                else:
                    # AdamW counts its steps on the CPU, but for its fused kernel on a GPU.
                    counter = key == "step" and self.device.type != "cuda"
                    mine[key] = saved.to("cpu" if counter else self.device, copy=True)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The optimiser's learning rate and the like, plain values: part of the state.

        They may be changed while a run is on, and go with it into forks, snapshots and checkpoints.
        `reset` puts back those of the configuration.
        """
        (group,) = self.optimizer.param_groups
        return {
            name: value.item() if isinstance(value, Tensor) else value
            for name, value in group.items()
            if name != "params"
        }

    @hyperparameters.setter
    def hyperparameters(self, values: dict[str, Any]) -> None:
        (group,) = self.optimizer.param_groups
        group.update(values)

    @isolated
    def fork(self) -> Trainer:
        """An independent trainer that goes on from here; both share the tokens, which are fixed."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._batches = torch.Generator(self.device)
        twin._dropout = torch.Generator(self.device)
        if self.built:
            del twin.model, twin.optimizer
            twin.load_state(self.model.ties, self.state(), self.model.frozen)
            twin.hyperparameters = self.hyperparameters
        return twin

    def __copy__(self) -> Trainer:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> Trainer:
        return self.fork()
