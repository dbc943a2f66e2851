"""A GPT-2-style transformer whose layers may share weights, in plain PyTorch.

What one layer computes is in `tiegym.transformer.block`; which weights it uses is decided here, by
the tie vector. How a tie vector changes during training, optimiser state included, is in
`tiegym.transformer.tying`.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiegym import parts
from tiegym.private import Private
from tiegym.ties import Ties
from tiegym.transformer.block import (
    NO_NORMS,
    NO_PRIVATE,
    Block,
    BlockWeights,
    PrivateWeights,
    Shape,
)
from tiegym.transformer.chunked_loss import chunked_cross_entropy
from tiegym.transformer.noise import drop, noise_like
from tiegym.transformer.private import PrivatePart
from tiegym.transformer.run_block import Dropout, run_block, run_checkpointed
from tiegym.transformer.sizes import parameter_sizes, part_name
from tiegym.transformer.streams import begin_stream
from tiegym.transformer.tied_model import TiedModel


class TiedTransformer(TiedModel):
    """A causal language model of L layers that holds weights for its independent layers only.

    `parameters()` yields each weight that exists once; those of frozen layers have
    `requires_grad=False`. The output head is the token embedding.

    Args:
        shape: Its sizes.
        ties: The tie vector, shape (L,); or two of them one behind the other, (2L,), with which
            attention and MLP share weights apart from each other, and are then what is called a
            unit here. See `tiegym.parts`.
        tie_grad: "owner" makes the weights constants at tied positions: no gradient is computed
            for them there, and autograd stores no input for one. "sum" adds up the gradients of
            all positions, as autograd does for a shared weight.
        dropout: Probability during training, on embeddings, attention and residual branches.
        device: Where the weights live.
        dtype: Of the weights.
        compute_dtype: Of the activations; the weights are cast to it once a forward pass, with
            `checkpoint_activations` once for each layer that uses them.
        compile: Whether the block runs through `torch.compile`, a size at a time; sequences
            shorter than `block_size` (the rest of a split, say) run uncompiled.
        checkpoint_activations: Whether training keeps only each block's input and computes the
            rest again in the backward pass (Chen et al. 2016): less memory, about a third more
            computation.
        loss_chunk: Tokens whose logits exist at a time in `loss`; 0 is all of them.
    """

    def __init__(
        self,
        shape: Shape,
        ties: Ties,
        tie_grad: Literal["owner", "sum"] = "owner",
        dropout: float = 0.0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compute_dtype: torch.dtype | None = None,
        compile: bool = False,
        checkpoint_activations: bool = False,
        loss_chunk: int = 0,
    ) -> None:
        """Allocates the weights; `initialize` or `load_state_dict` sets their values."""
        super().__init__(shape.n_layer, ties, tie_grad)
        self.shape = shape
        self.dropout = dropout
        self.compute_dtype = compute_dtype or dtype
        self.checkpoint_activations = checkpoint_activations
        self.loss_chunk = loss_chunk
        self.dropout_generator: torch.Generator | None = None
        """Where dropout draws from; None is PyTorch's global generator of the device."""
        self.fused_dropout = torch.device(device).type == "cuda"
        """Whether PyTorch's own kernels drop: they draw from the global generator alone, and keep
        no attention weights, which on a GPU would take gigabytes."""
        self.compiled = compile

        def empty(*size: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(size, device=device, dtype=dtype))

        sizes = parameter_sizes(shape, self._ties)
        self.token_embedding = empty(*sizes["token_embedding"])
        self.position_embedding = empty(*sizes["position_embedding"])
        self.final_norm_weight = empty(*sizes["final_norm_weight"])
        self.final_norm_bias = empty(*sizes["final_norm_bias"])
        self._names = parts.unit_names(len(self._ties), shape.n_layer)
        own = parts.by_layer(set(self._roots), shape.n_layer)
        self.blocks = nn.ModuleDict({self._names[unit]: self.new_block(unit) for unit in own})
        private, like = shape.private_parts, self.token_embedding
        self.private = nn.ModuleList(
            PrivatePart(private, shape.n_embd, like.device, like.dtype)
            for _ in range(shape.n_layer if private != Private() else 0)
        )

    def shared_weights(self, layer: int) -> BlockWeights:
        """The weights that a layer shares, or could: the parameters of its root or roots.

        Where they are compressed, what a forward pass makes of them.
        """
        weights = dict(NO_NORMS)
        for root in self._roots[layer :: self.shape.n_layer]:
            weights |= self.used_weights(root)
        return BlockWeights(**weights)

    def used_weights(self, unit: int) -> dict[str, Tensor]:
        """See `TiedModel`."""
        return self.independent(unit).used()

    def private_part(self, layer: int) -> PrivatePart | None:
        """What a position keeps to itself, if anything is private."""
        if not self.private:
            return None
        part = self.private[layer]
        assert isinstance(part, PrivatePart)
        return part

    def private_weights(self, layer: int) -> PrivateWeights:
        """The weights of a position's `private_part`."""
        part = self.private_part(layer)
        return NO_PRIVATE if part is None else part.weights

    def new_block(self, unit: int = 0) -> Block:
        """An uninitialised block, or part of one, of this transformer's size, device and dtype."""
        like = self.token_embedding
        part = part_name(unit, len(self._ties), self.shape.n_layer)
        norms, compression = not self.shape.private_parts.norms, self.shape.compression
        return Block(self.shape.n_embd, like.device, like.dtype, part, norms, compression)

    def independent(self, unit: int) -> Block:
        """The weights of an independent layer, or unit.

        Raises:
            KeyError: If it is tied: it has no weights of its own.
        """
        module = self.blocks[self._names[unit]]
        assert isinstance(module, Block)
        return module

    def _place(self, blocks: dict[int, Any]) -> None:
        units = parts.by_layer(blocks, self.n_layer)
        self.blocks = nn.ModuleDict({self._names[unit]: blocks[unit] for unit in units})

    @torch.no_grad()
    def initialize(
        self, seed: int, residual_scale: Literal["depth", "group"] = "depth", std: float = 0.02
    ) -> None:
        """Sets all weights in place, from generators for each layer.

        A layer's initial values depend on the seed and its number alone, not on the ties, nor on
        whether its parts share weights apart: runs of different ties with the same seed start
        from the same weights. Private weights have streams of their own, so that all others stay
        what they are without them.

        Args:
            seed: Not negative.
            residual_scale: "group" divides residual projections by sqrt(n) more, n the number of
                positions that use them: the one thing that then depends on the ties.
            std: Standard deviation of weights, but for residual projections. Private ones are at
                their neutral values, whatever it is.
        """
        generator = torch.Generator(self.token_embedding.device)

        begin_stream(generator, seed, 0)
        self.token_embedding.normal_(0, std, generator=generator)
        self.position_embedding.normal_(0, std, generator=generator)
        self.final_norm_weight.fill_(1.0)
        self.final_norm_bias.fill_(0.0)
        for unit in sorted(set(self._roots)):
            part, layer = divmod(unit, self.shape.n_layer)
            begin_stream(generator, seed, 1 + layer)
            if part:  # its draws follow those of the attention, as in a whole block
                self.new_block(layer).initialize(self.n_layer, generator)
            uses = self._roots.count(unit) if residual_scale == "group" else 1
            self.independent(unit).initialize(self.n_layer, generator, uses, std)
        for layer, own in enumerate(self.private):
            assert isinstance(own, PrivatePart)
            begin_stream(generator, seed, 1 + layer, 1)
            own.initialize(generator)

    def forward(self, tokens: Tensor, depth: int | None = None) -> Tensor:
        """Logits (B, T, V) in the compute dtype of tokens (B, T); arguments as of `hidden`."""
        return F.linear(self.hidden(tokens, depth), self.token_embedding.to(self.compute_dtype))

    def hidden(self, tokens: Tensor, depth: int | None = None) -> Tensor:
        """The final, normalised hidden states (B, T, C) of tokens (B, T).

        Args:
            tokens: T up to block_size.
            depth: Layers that run, from the first on; beyond L they run again from the first, so
                that a shared layer can be applied any number of times. None is L.

        Raises:
            ValueError: If T is over block_size, or the depth under 1.
        """
        length = tokens.shape[1]
        if length > self.shape.block_size:
            raise ValueError(
                f"{length} tokens a sequence, but block_size={self.shape.block_size}: give fewer"
            )
        n_layer = self.shape.n_layer
        depth = n_layer if depth is None else depth
        if not hasattr(depth, "__index__") or depth < 1:
            raise ValueError(f"depth={depth!r} must be at least 1 layer, or None for all")
        dropout = self.dropout if self.training else 0.0
        dtype = self.compute_dtype
        x = F.embedding(tokens, self.token_embedding) + self.position_embedding[:length]
        x = x.to(dtype)
        if dropout:
            fused = self.fused_dropout
            x = drop(x, dropout if fused else noise_like(x, dropout, self.dropout_generator))
        run = run_checkpointed if self._checkpoints else run_block
        source = Dropout(dropout, self.dropout_generator, self.fused_dropout)
        compiled = self.compiled and length == self.shape.block_size
        # Without gradients all weights are constants: a compiled block then has one graph more.
        learns = torch.is_grad_enabled()
        own: dict[int, dict[str, Tensor]] = {}
        constant: dict[int, dict[str, Tensor]] = {}
        for layer in (position % n_layer for position in range(depth)):
            weights = dict(NO_NORMS)
            for unit in range(layer, len(self._roots), n_layer):
                root = self._roots[unit]
                if root not in own:
                    own[root] = self.used_weights(root)
                    if not self._checkpoints:  # cast once, however many layers use them
                        own[root] = {name: p.to(dtype) for name, p in own[root].items()}
                if not (learns and self._learns(unit)):
                    if root not in constant:
                        constant[root] = {name: p.detach() for name, p in own[root].items()}
                    used = constant[root]
                else:
                    used = own[root]
                weights |= used if self.watch is None else self.watch(unit, used)
            shared, private = BlockWeights(**weights), self.private_weights(layer)
            x = run(shared, private, x, self.shape.n_head, source, compiled)
        weight, bias = self.final_norm_weight.to(dtype), self.final_norm_bias.to(dtype)
        return F.layer_norm(x, (self.shape.n_embd,), weight, bias)

    @property
    def _checkpoints(self) -> bool:
        return self.checkpoint_activations and self.training and torch.is_grad_enabled()

    def loss(self, tokens: Tensor, targets: Tensor, depth: int | None = None) -> Tensor:
        """Mean cross-entropy in nats, a scalar of float32 or wider.

        Args:
            tokens: As of `hidden`, as is the depth.
            targets: The tokens that follow them, (B, T).
            depth: Layers that run.
        """
        hidden, targets = self.hidden(tokens, depth).flatten(0, 1), targets.flatten()
        if self.loss_chunk:
            return chunked_cross_entropy(hidden, self.token_embedding, targets, self.loss_chunk)
        logits = F.linear(hidden, self.token_embedding.to(self.compute_dtype))
        return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets)
