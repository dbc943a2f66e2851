"""Elastic depth (ElastiFormer, 2024, arXiv 2411.15281): tokens leave out layers of a trained model.

Before each layer l stands a router, which gives the token x_t that comes to it the score
s_t = w_l x_t, and g_t = sigmoid(e^a_l s_t + b_l). In training, the k tokens of each sequence with
the largest scores run through the layer, among themselves; the others go by it unchanged. At
evaluation a token runs if g_t is at least a threshold, which looks at no later token. Only routers
train. Their loss is the Kullback-Leibler divergence from the output of the model that runs all
tokens through all layers, which moves scores, plus the cross-entropy of g_t as a guess of whether
the token is among the k, which moves a_l and b_l.

What the paper's abstract leaves open, or we do otherwise:

- k is drawn anew for each iteration, from a range. The best guess g_t is then the share of draws in
  which the token runs, so that one training gives a model for all depths: a threshold of h leaves
  about 1 - h of the range.
- The output of a token that runs is what the layer gives, and not scaled by g_t. The gradient of a
  score is that of such a scale at 1, less its mean over the tokens of the sequence that run: what
  counts is which of them run. With all tokens it is thus the trained model, exactly
  (`gain="straight-through"`). `gain="scaled"` scales: x_t + g_t (layer(x_t) - x_t).
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
from tiegym.transformer.streams import begin_stream

Gain = Literal["straight-through", "scaled"]


class Routers(nn.Module):
    """The weights w, a and b of the routers, without values: (L, C), (L,) and (L,)."""

    def __init__(self, model: FrozenTransformer) -> None:
        """Allocates them like those of the model."""
        super().__init__()
        like, n_layer = model.token_embedding, model.n_layer
        for name, size in (
            ("weight", (n_layer, model.shape.n_embd)),
            ("log_slope", (n_layer,)),
            ("bias", (n_layer,)),
        ):
            values = torch.empty(size, device=like.device, dtype=like.dtype)
            self.register_parameter(name, nn.Parameter(values))


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
        """Draws w like other weights; a and b are 0."""
        generator = torch.Generator(self.token_embedding.device)
        begin_stream(generator, seed, 0, 1)
        for name, p in self.part.named_parameters():
            if name == "weight":
                p.normal_(0, 0.02, generator=generator)
            else:
                p.zero_()

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
        drawn = torch.rand(
            (), generator=generator, dtype=torch.float32, device=tokens.device
        ).item()
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
            guess = self._guess(layer, scores.detach())
            guesses.append(F.binary_cross_entropy_with_logits(guess, chosen.to(guess.dtype)))
            x = self._through(layer, x, chosen, scores)
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
            scores = self._scores(layer, x)
            g = torch.sigmoid(self._guess(layer, scores))
            if self.at_random:
                g = torch.rand(g.shape, generator=draws, device=g.device, dtype=g.dtype)
            chosen = g >= self.threshold
            self.tokens_run += int(chosen.sum())
            x = self._through(layer, x, chosen, scores)
        self.tokens_seen += tokens.numel()
        return self.normalized(x)

    def _scores(self, layer: int, x: Tensor) -> Tensor:
        """The scores that the router of a layer gives tokens, in float32 or wider, (B, T)."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return x.detach().to(wide) @ self.part.get_parameter("weight")[layer].to(wide)

    def _guess(self, layer: int, scores: Tensor) -> Tensor:
        """g_t of scores, before the sigmoid, (B, T)."""
        slope, bias = (self.part.get_parameter(n)[layer] for n in ("log_slope", "bias"))
        return slope.exp() * scores + bias

    def _through(self, layer: int, x: Tensor, chosen: Tensor, scores: Tensor) -> Tensor:
        """The output of a layer through which some tokens run.

        The chosen ones of each sequence are put first, in their order. What stands behind them
        in sequences with fewer than others sees them, and isn't seen by them; it is thrown away.

        Args:
            layer: Which one.
            x: Its input, (B, T, C).
            chosen: Which tokens run, bool (B, T).
            scores: What the router says, (B, T).
        """
        n = int(chosen.sum(1).max())
        if n == 0:
            return x
        order = torch.argsort(chosen.to(torch.int8), dim=1, descending=True, stable=True)[:, :n]
        index = order[:, :, None].expand(-1, -1, x.shape[2])
        into = x.gather(1, index)
        out = self.run_layer(layer, into)
        scores, runs = scores.gather(1, order)[:, :, None], chosen.gather(1, order)[:, :, None]
        if self.gain == "scaled":
            g = torch.sigmoid(self._guess(layer, scores))
            out = into + g.to(x.dtype) * (out - into)
        elif scores.requires_grad:
            above = (scores - scores.mean(1, keepdim=True)).to(x.dtype)
            out = out + (above - above.detach()) * (out - into).detach()
        return x.scatter(1, index, torch.where(runs, out, into))

    def _log_probabilities(self, hidden: Tensor) -> Tensor:
        """Of the next token, in float32 or wider, (B T, V)."""
        logits = F.linear(hidden, self.token_embedding.to(hidden.dtype)).flatten(0, 1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
