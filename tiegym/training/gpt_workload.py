"""Language modelling with our own transformer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from tiegym.config import TieConfig
from tiegym.data.corpora import Corpus
from tiegym.data.tasks.language import language_modeling
from tiegym.data.token_data import TokenData
from tiegym.parts import unit_names
from tiegym.ties import Ties
from tiegym.training.initial_weights import read_weights, take_over
from tiegym.training.resolve import check_corpus, resolve_loss_chunk, transformer_shape
from tiegym.training.workload import Batch, Inputs, Workload
from tiegym.transformer import tying
from tiegym.transformer.admin import balance_branches
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.sizes import parameter_sizes
from tiegym.transformer.small_form import stored_sizes
from tiegym.transformer.tied_model import TiedModel

_EMBEDDINGS = ("token_embedding", "position_embedding")


class GPTWorkload(Workload):
    """A `TiedTransformer` on the tokens of a corpus; inputs are tokens, int64 (B, T).

    Args:
        config: All sizes and values.
        corpus: The tokens; each split large enough for a batch (`check_corpus`).

    Raises:
        ValueError: If the corpus is too small, the device isn't there, or the initial weights don't
            fit.
    """

    data: TokenData
    kind: Callable[..., TiedTransformer] = TiedTransformer
    """Makes the transformer."""
    source: TiedTransformer | None
    """That whose weights it begins with; None draws them."""

    def __init__(self, config: TieConfig, corpus: Corpus) -> None:
        """Copies the tokens to the device."""
        check_corpus(config, corpus)
        super().__init__(config, language_modeling(corpus, config.block_size))
        self.shape = transformer_shape(config, corpus)
        path = config.initial_weights
        self.source = None if path is None else read_weights(path, self.shape, corpus.tokenizer)
        self.data = TokenData(corpus, self.device)

    @property
    def given_weights(self) -> dict[str, Tensor] | None:
        """Those of `initial_weights`, each once."""
        return None if self.source is None else dict(self.source.named_parameters())

    def make(self, ties: Ties, dropout: torch.Generator) -> TiedTransformer:
        """See `Workload`."""
        config = self.config
        model = self.kind(
            self.shape,
            ties,
            tie_grad=config.tie_grad,
            dropout=config.dropout,
            device=self.device,
            dtype=self.dtype,
            compute_dtype=self.compute_dtype,
            compile=config.compile,
            checkpoint_activations=config.checkpoint_activations,
            loss_chunk=resolve_loss_chunk(config.loss_chunk, self.shape.vocab_size, self.device),
        )
        model.dropout_generator = dropout
        for name in _EMBEDDINGS if config.embeddings == "frozen" else ():
            model.get_parameter(name).requires_grad_(False)
        return model

    def begin(self, model: TiedModel, seed: int, batches: torch.Generator) -> None:
        """See `Workload`."""
        model, config = _ours(model), self.config
        model.initialize(seed, config.residual_scale, config.init_std)
        if self.source is not None:
            take_over(model, self.source)
        if config.init == "admin":
            inputs, _ = self.data.sample("train", config.batch_size, config.block_size, batches)
            balance_branches(model, inputs)

    def sample(self, split: str, n: int, generator: torch.Generator) -> Batch:
        """See `Workload`."""
        return self.data.sample(split, n, self.config.block_size, generator)

    def test_batches(self) -> Iterator[Batch]:
        """See `Workload`."""
        config = self.config
        at_a_time = config.batch_size * config.eval_batches
        return self.data.windows("test", config.block_size, at_a_time, config.test_tokens)

    def outputs(self, model: TiedModel, inputs: Inputs, depth: int | None = None) -> Tensor:
        """Logits, (B, T, V)."""
        assert isinstance(inputs, Tensor)
        logits: Tensor = _ours(model)(inputs, depth)
        return logits

    def loss(self, model: TiedModel, batch: Batch, depth: int | None = None) -> Tensor:
        """See `Workload`."""
        inputs, targets = batch
        assert isinstance(inputs, Tensor)
        return _ours(model).loss(inputs, targets, depth)

    def count(self, targets: Tensor) -> int:
        """See `Workload`; each token is asked for, so that nothing waits for the device."""
        return targets.numel()

    def lends_dropout(self, model: TiedModel) -> bool:
        """See `Workload`."""
        return self.config.dropout > 0 and _ours(model).fused_dropout

    def parameter_sizes(self, ties: Ties) -> dict[str, tuple[int, ...]]:
        """See `Workload`."""
        return parameter_sizes(self.shape, ties)

    def stored_bytes(self, ties: Ties) -> int:
        """See `Workload`."""
        bits = self.shape.compression.bits
        stored = stored_sizes(self.parameter_sizes(ties), bits, self.dtype).values()
        return sum(math.prod(size) * dtype.itemsize for size, dtype in stored)

    def without_moments(self, ties: Ties, frozen: Sequence[bool] | None = None) -> set[str]:
        """See `Workload`."""
        names = unit_names(len(ties), self.shape.n_layer)
        still = {f"blocks.{names[unit]}" for unit, flag in enumerate(frozen or ()) if flag}
        found = {n for n in self.parameter_sizes(ties) if n.rpartition(".")[0] in still}
        return found | (set(_EMBEDDINGS) if self.config.embeddings == "frozen" else set())

    def trainable_params(self, n_independent: int, n_mlp: int | None = None) -> int:
        """See `Workload`."""
        return self.shape.params(n_independent, n_mlp) - self._frozen_embeddings

    def expected_state_bytes(self, n_independent: int, n_mlp: int | None = None) -> int:
        """See `Workload`."""
        state = tying.expected_state_bytes(self.shape, n_independent, self.dtype, n_mlp)
        if frozen := self._frozen_embeddings:  # two tensors without gradients, moments and counts
            state -= 3 * frozen * self.dtype.itemsize + 2 * torch.float32.itemsize
        return state

    @property
    def _frozen_embeddings(self) -> int:
        """Numbers in the embeddings that train no more."""
        shape = self.shape
        numbers = (shape.vocab_size + shape.block_size) * shape.n_embd
        return numbers if self.config.embeddings == "frozen" else 0


def _ours(model: TiedModel) -> TiedTransformer:
    assert isinstance(model, TiedTransformer)
    return model
