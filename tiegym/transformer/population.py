"""The forward pass of many transformers of one size at once, each with weights of its own.

Their activations are one tensor (M, N, C): M members, the N = B T tokens of a batch of each. A
linear map is one batched product, attention sees M B sequences, and what is normalised is token by
token anyway. Weights are stacked (M, ...), whichever rows of a store they come from.

Gradients of weights never go through autograd's own tensors: each operation adds that of the
members whose weights train here straight to the rows of their store. So where weights are
constants no gradient of them is computed, for some members or for all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tiegym.transformer.chunked_loss import chunked_cross_entropy
from tiegym.transformer.noise import attention_with_noise, noise_like


@dataclass(frozen=True)
class Stacked:
    """The weights that some members use at one place, and where their gradients go.

    Attributes:
        values: By name, (M, ...) each.
        gradients: By name, a view (R, numbers) of a store of R rows; empty where nothing trains.
        trained: Which of the members train here, int64 (k,); None is all of them.
        rows: The row of the store that each of these trains, int64 (k,), or a slice of them.
    """

    values: Mapping[str, Tensor]
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    trained: Tensor | None = None
    rows: Tensor | slice | None = None

    @property
    def trains(self) -> bool:
        """Whether any member does."""
        return self.rows is not None

    def of_trained(self, x: Tensor) -> Tensor:
        """What belongs to members that train here, (k, ...) of (M, ...)."""
        return x if self.trained is None else x.index_select(0, self.trained)

    def add(self, name: str, gradient: Tensor) -> None:
        """Adds the gradients (k, ...) of the members that train here to their rows."""
        assert self.rows is not None
        add_rows(self.gradients[name], self.rows, gradient)


def add_rows(into: Tensor, rows: Tensor | slice, values: Tensor) -> None:
    """Adds (k, ...) to rows of (R, numbers)."""
    values = values.flatten(1).to(into.dtype)
    if isinstance(rows, slice):
        into[rows].add_(values)
    else:
        into.index_add_(0, rows, values)


@dataclass(frozen=True)
class Weights:
    """All that some members use in one forward pass.

    Attributes:
        token_embedding: (M, V, C); the head, too.
        position_embedding: (M, T, C).
        final_norm: `final_norm_weight` and `final_norm_bias`.
        layers: For each position, the weights that it shares: of `BlockWeights`, by name, each with
            the `Stacked` that has it.
        private: For each position, what it keeps to itself, by the names of
            `tiegym.transformer.private.private_sizes`; empty where nothing is private.
    """

    token_embedding: Tensor
    position_embedding: Tensor
    final_norm: Stacked
    layers: Sequence[Mapping[str, Stacked]]
    private: Sequence[Stacked]


def losses(
    weights: Weights,
    tokens: Tensor,
    targets: Tensor,
    n_head: int,
    dtype: torch.dtype,
    loss_chunk: int = 0,
    dropout: float = 0.0,
    generators: Sequence[torch.Generator] = (),
) -> Tensor:
    """Mean cross-entropy in nats of each member, (M,), in float32 or wider.

    Args:
        weights: Theirs.
        tokens: Of each member, int64 (M, B, T).
        targets: What follows them, (M, B, T).
        n_head: Attention heads.
        dtype: Of the activations.
        loss_chunk: As of `TiedTransformer`.
        dropout: Probability, in training.
        generators: What each member's dropout draws from, in the order of `TiedTransformer`.
    """
    m, b, t = tokens.shape
    n_vocab, width = weights.token_embedding.shape[1:]
    first = torch.arange(m, device=tokens.device).mul_(n_vocab).view(m, 1, 1)
    x = F.embedding(tokens + first, weights.token_embedding.reshape(m * n_vocab, width))
    x = (x + weights.position_embedding[:, None, :t]).to(dtype).view(m, b * t, width)
    if not x.requires_grad and torch.is_grad_enabled():  # frozen embeddings; weights above train
        x.requires_grad_()
    noise = _Noise(dropout, generators, (b, t)) if dropout else None
    if noise is not None:
        x = x * noise(x, width)
    for position, layer in enumerate(weights.layers):
        private = weights.private[position] if weights.private else Stacked({})
        own = {name: private for name in private.values}
        x = _block(x, {**layer, **own}, n_head, t, noise)
    final = {name: weights.final_norm for name in weights.final_norm.values}
    hidden = _norm(x, final, "final_norm")
    if loss_chunk:
        pairs = zip(hidden.unbind(), weights.token_embedding.unbind(), targets, strict=True)
        return torch.stack(
            [chunked_cross_entropy(h, e, goal.flatten(), loss_chunk) for h, e, goal in pairs]
        )
    logits = torch.bmm(hidden, weights.token_embedding.to(dtype).mT).flatten(0, 1)
    logits = logits.to(torch.promote_types(dtype, torch.float32))
    each: Tensor = F.cross_entropy(logits, targets.flatten(), reduction="none")
    return each.view(m, -1).mean(1)


class _Noise:
    """Dropout's noise of all members, each from a stream of its own."""

    def __init__(
        self, p: float, generators: Sequence[torch.Generator], batch: tuple[int, int]
    ) -> None:
        self.p, self.generators, self.batch = p, generators, batch

    def __call__(self, x: Tensor, width: int) -> Tensor:
        """Of a residual branch (M, B T, C)."""
        like = x.new_empty((*self.batch, width))
        drawn = [noise_like(like, self.p, generator) for generator in self.generators]
        return torch.stack(drawn).view(len(drawn), -1, width)

    def of_attention(self, x: Tensor, n_head: int) -> Tensor:
        """Of attention weights, (M B, heads, T, T), in float32 or wider."""
        b, t = self.batch
        wide = torch.promote_types(x.dtype, torch.float32)
        like = torch.empty((b, n_head, t, t), dtype=wide, device=x.device)
        return torch.cat([noise_like(like, self.p, generator) for generator in self.generators])


def _block(
    x: Tensor, w: Mapping[str, Stacked], n_head: int, length: int, noise: _Noise | None
) -> Tensor:
    """What `tiegym.transformer.block.block` computes, of all members; x (M, B T, C)."""
    m, n, width = x.shape
    h = _linear(_norm(x, w, "norm_1"), w, "qkv")
    shape = (m * n // length, length, n_head, width // n_head)
    # Three pieces of one row, so that their gradients are put together in one copy.
    q, k, v = (part.reshape(shape).transpose(1, 2) for part in h.split_with_sizes([width] * 3, 2))
    if noise is None:
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    else:
        h = attention_with_noise(q, k, v, noise.of_attention(x, n_head))
    h = _linear(h.transpose(1, 2).reshape(m, n, width), w, "attention_out")
    x = x + _scaled(h if noise is None else h * noise(x, width), w, "attention_scale")
    h = _gelu(_linear(_norm(x, w, "norm_2"), w, "mlp_in"))
    h = _linear(h, w, "mlp_out")
    return x + _scaled(h if noise is None else h * noise(x, width), w, "mlp_scale")


def _norm(x: Tensor, w: Mapping[str, Stacked], name: str) -> Tensor:
    return _affine(F.layer_norm(x, x.shape[-1:]), w, f"{name}_weight", f"{name}_bias")


def _scaled(branch: Tensor, w: Mapping[str, Stacked], name: str) -> Tensor:
    return _affine(branch, w, name) if name in w else branch


def _affine(x: Tensor, w: Mapping[str, Stacked], gain: str, shift: str | None = None) -> Tensor:
    result: Tensor = _Affine.apply(x, w[gain], gain, shift)  # type: ignore[no-untyped-call]
    return result


def _linear(x: Tensor, w: Mapping[str, Stacked], name: str) -> Tensor:
    """The map of the weights of a name, with the low-rank term beside it if there is one."""
    weight, bias = f"{name}_weight", f"{name}_bias"
    result: Tensor = _Linear.apply(x, w[weight], weight, bias)  # type: ignore[no-untyped-call]
    if f"{name}_a" in w:
        for factor in (f"{name}_a", f"{name}_b"):
            x = _Linear.apply(x, w[factor], factor, None)  # type: ignore[no-untyped-call]
        result = result + x
    return result


class _Linear(torch.autograd.Function):
    """x (M, N, in) by each member's matrix (M, out, in), plus its bias (M, out) if it has one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Stacked, weight: str, bias: str | None) -> Tensor:
        ctx.w, ctx.names = w, (weight, bias)
        ctx.save_for_backward(x if w.trains else None)
        matrix = w.values[weight].mT
        if bias is None:
            return torch.bmm(x, matrix)
        return torch.baddbmm(w.values[bias].unsqueeze(1), x, matrix)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        w, (weight, bias) = ctx.w, ctx.names
        if w.trains:
            (x,) = ctx.saved_tensors
            trained = w.of_trained(gradient)
            w.add(weight, torch.bmm(trained.mT, w.of_trained(x)))
            if bias is not None:
                w.add(bias, trained.sum(1))
        return torch.bmm(gradient, w.values[weight]), None, None, None


class _Affine(torch.autograd.Function):
    """x (M, N, C) times each member's gain (M, C), plus its shift (M, C) if it has one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Stacked, gain: str, shift: str | None) -> Tensor:
        ctx.w, ctx.names = w, (gain, shift)
        ctx.save_for_backward(x if w.trains else None)
        factor = w.values[gain].unsqueeze(1)
        return x * factor if shift is None else torch.addcmul(_row(w, shift), x, factor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        w, (gain, shift) = ctx.w, ctx.names
        if w.trains:
            (x,) = ctx.saved_tensors
            trained = w.of_trained(gradient)
            w.add(gain, (trained * w.of_trained(x)).sum(1))
            if shift is not None:
                w.add(shift, trained.sum(1))
        return gradient * _row(w, gain), None, None, None


def _row(w: Stacked, name: str) -> Tensor:
    return w.values[name].unsqueeze(1)


_GAIN, _CUBE = math.sqrt(2 / math.pi), 0.044715  # of GELU's tanh approximation
_SLICE = 2**16  # numbers a thread, such as stay in its cache from one operation to the next


def _gelu(x: Tensor) -> Tensor:
    """GELU by tanh. PyTorch's own kernel takes several times as long on a CPU as these steps do."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return F.gelu(x, approximate="tanh")
    result: Tensor = _Gelu.apply(x)  # type: ignore[no-untyped-call]
    return result


class _Gelu(torch.autograd.Function):
    """y = x h, h = (1 + tanh(u)) / 2 = sigmoid(2 u), u = a x + a c x^3; and its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        learns = ctx.needs_input_grad[0]
        y, slope = torch.empty_like(x), torch.empty_like(x if learns else x[:0])
        x_flat, y_flat, slope_flat = x.view(-1), y.view(-1), slope.view(-1)
        size = _SLICE * torch.get_num_threads()
        for start in range(0, len(x_flat), size):
            piece = slice(start, start + size)
            s = x_flat[piece].square()
            h = s.mul(2 * _GAIN * _CUBE).add_(2 * _GAIN).mul_(x_flat[piece]).sigmoid_()
            torch.mul(x_flat[piece], h, out=y_flat[piece])
            if learns:  # dy/dx = h + 2 y (1 - h) (a + 3 a c x^2)
                s.mul_(6 * _GAIN * _CUBE).add_(2 * _GAIN).mul_(y_flat[piece])
                torch.addcmul(s, s, h, value=-1, out=slope_flat[piece]).add_(h)
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        slope: Tensor = ctx.saved_tensors[0]
        return gradient * slope
