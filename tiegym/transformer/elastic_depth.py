"""Elastic depth (ElastiFormer, 2024, arXiv 2411.15281): tokens leave out layers of a trained model.

Each layer l has a router, which sees the token x_t that comes to it: g_t = sigmoid(w_l x_t + b_l).
In training, the k tokens of each sequence with the largest g_t run through the layer, among
themselves; the others go by it unchanged. At evaluation a token runs if g_t is at least a
threshold, which looks at no later token. Only routers train. Their loss is the Kullback-Leibler
divergence from the output of the model that runs all tokens through all layers, plus the
cross-entropy of g_t as a guess of whether the token is among the k.

What the paper's abstract leaves open, or we do otherwise:

- k is drawn anew for each iteration, from a range. The best guess g_t is then the share of draws in
  which the token runs, so that one training gives a model for all depths: a threshold of h leaves
  about 1 - h of the range.
- The output of a token that runs is what the layer gives, and not scaled by g_t; its gradient to
  g_t is that of such a scale at 1 (`gain="straight-through"`). With all tokens it is thus the
  trained model, exactly. `gain="scaled"` scales: x_t + g_t (layer(x_t) - x_t).
- A router's input is a constant: routers don't move what other routers see by gradients.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiegym.ties import Ties
from tiegym.transformer.block import Shape
from tiegym.transformer.frozen import FrozenTransformer
from tiegym.transformer.gpt import TiedTransformer

Gain = Literal["straight-through", "scaled"]


class Routers(nn.Module):
    """The weights of the routers, without values: (L, C), and (L,)."""

    def __init__(self, model: FrozenTransformer) -> None:
        """Allocates them like those of the model."""
        super().__init__()
        like, size = model.token_embedding, (model.n_layer, model.shape.n_embd)
        self.weight = nn.Parameter(torch.empty(size, device=like.device, dtype=like.dtype))
        self.bias = nn.Parameter(torch.empty(size[0], device=like.device, dtype=like.dtype))


class ElasticTransformer(FrozenTransformer):
    """A frozen transformer with a router before each layer.

    Attributes:
        at_random: Whether g_t is drawn uniformly at evaluation, in place of what routers say: the
            null model of routers.
        tokens_run: Tokens that have run through layers at evaluation, since it was set to 0.
        tokens_seen: Tokens that have been evaluated, since it was set to 0.

    Args:
        shape: As of `TiedTransformer`.
        ties: As of `TiedTransformer`.
        least: The least share of tokens that run in training, above 0.
        most: The largest; a share between the two is drawn for each batch.
        gain: See above.
        router_loss: Weight of the cross-entropy of routers in the loss.
        threshold: At evaluation a token runs through a layer if g_t is at least this. At 0 it is
            the trained model. An attribute of this name can be set later.
        **options: As of `TiedTransformer`; nothing is dropped.
    """

    part: Routers

    def __init__(
        self,
        shape: Shape,
        ties: Ties,
        least: float = 0.25,
        most: float = 1.0,
        gain: Gain = "straight-through",
        router_loss: float = 0.1,
        threshold: float = 0.5,
        **options: Any,
    ) -> None:
        """Allocates the model and its routers."""
        super().__init__(shape, ties, **options)
        self.least, self.most, self.gain, self.router_loss = least, most, gain, router_loss
        self.part = Routers(self)
        self.threshold, self.at_random = threshold, False
        self.tokens_run, self.tokens_seen = 0, 0

    @torch.no_grad()
    def initialize_part(self, seed: int) -> None:
        """All weights are 0: g_t is one half, whatever the seed."""
        self.part.weight.zero_()
        self.part.bias.zero_()

    def loss(self, tokens: Tensor, targets: Tensor, depth: int | None = None) -> Tensor:
        """In training the routers' loss, else the cross-entropy of `hidden`; nats, a scalar.

        Args:
            tokens: As of `hidden`.
            targets: The tokens that follow them, (B, T); routers learn without them.
            depth: As of `hidden`; None in training.
        """
        if not self.training:
            return super().loss(tokens, targets, depth)
        generator = self.dropout_generator
        drawn = torch.rand((), generator=generator, device=tokens.device).item()
        capacity = self.least + (self.most - self.least) * drawn
        return self.distillation(tokens, max(1, round(capacity * tokens.shape[1])))

    def distillation(self, tokens: Tensor, k: int) -> Tensor:
        """The routers' loss in nats if k tokens of each sequence run through each layer."""
        with torch.no_grad():
            teacher = self._log_probabilities(TiedTransformer.hidden(self, tokens))
        x, guesses = self.embedded(tokens), []
        for layer in range(self.n_layer):
            scores = self._scores(layer, x)
            chosen = torch.zeros_like(scores, dtype=torch.bool)
            chosen.scatter_(1, scores.topk(k, dim=1).indices, True)
            guesses.append(F.binary_cross_entropy_with_logits(scores, chosen.to(scores.dtype)))
            x = self._through(layer, x, chosen, torch.sigmoid(scores))
        student = self._log_probabilities(self.normalized(x))
        divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        return divergence + self.router_loss * torch.stack(guesses).mean()

    def hidden(self, tokens: Tensor, depth: int | None = None) -> Tensor:
        """The final, normalised hidden states (B, T, C) of tokens (B, T), by the threshold.

        Args:
            tokens: T up to block_size.
            depth: All tokens run through so many layers, from the first on, and no router is
                asked; None asks the routers.
        """
        if depth is not None:
            return super().hidden(tokens, depth)
        x = self.embedded(tokens)
        draws = torch.Generator(x.device).manual_seed(0)
        for layer in range(self.n_layer):
            g = torch.sigmoid(self._scores(layer, x))
            if self.at_random:
                g = torch.rand(g.shape, generator=draws, device=g.device, dtype=g.dtype)
            chosen = g >= self.threshold
            self.tokens_run += int(chosen.sum())
            x = self._through(layer, x, chosen, g)
        self.tokens_seen += tokens.numel()
        return self.normalized(x)

    def _scores(self, layer: int, x: Tensor) -> Tensor:
        """What the router of a layer says of tokens, before the sigmoid, (B, T)."""
        wide = torch.promote_types(x.dtype, torch.float32)
        weight, bias = self.part.weight[layer].to(wide), self.part.bias[layer].to(wide)
        return x.detach().to(wide) @ weight + bias

    def _through(self, layer: int, x: Tensor, chosen: Tensor, g: Tensor) -> Tensor:
        """The output of a layer through which some tokens run.

        The chosen ones of each sequence are put first, in their order. What stands behind them
        in sequences with fewer than others sees them, and isn't seen by them; it is thrown away.

        Args:
            layer: Which one.
            x: Its input, (B, T, C).
            chosen: Which tokens run, bool (B, T).
            g: What the router says, (B, T).
        """
        n = int(chosen.sum(1).max())
        if n == 0:
            return x
        order = torch.argsort(chosen.to(torch.int8), dim=1, descending=True, stable=True)[:, :n]
        index = order[:, :, None].expand(-1, -1, x.shape[2])
        into = x.gather(1, index)
        out = self.run_layer(layer, into)
        gain = g.gather(1, order)[:, :, None].to(x.dtype)
        if self.gain == "scaled":
            out = into + gain * (out - into)
        elif gain.requires_grad:
            out = out + (gain - gain.detach()) * (out - into).detach()
        runs = chosen.gather(1, order)[:, :, None]
        return x.scatter(1, index, torch.where(runs, out, into))

    def _log_probabilities(self, hidden: Tensor) -> Tensor:
        """Of the next token, in float32 or wider, (B T, V)."""
        logits = F.linear(hidden, self.token_embedding.to(hidden.dtype)).flatten(0, 1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
