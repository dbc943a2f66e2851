"""The semantics of tying, written a second time and as plainly as possible.

L full PyTorch layers of the library's own (`nn.TransformerEncoderLayer`), weights copied out one
by one to every layer that uses them, AdamW and clipping by their formulas. Slow and in float64.
Parts of layers that share weights apart, and what is frozen, are as in `tiegym.parts`.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from tiegym.transformer.block import BlockWeights

LIBRARY_NAMES = BlockWeights(
    "norm1.weight",
    "norm1.bias",
    "self_attn.in_proj_weight",
    "self_attn.in_proj_bias",
    "self_attn.out_proj.weight",
    "self_attn.out_proj.bias",
    "norm2.weight",
    "norm2.bias",
    "linear1.weight",
    "linear1.bias",
    "linear2.weight",
    "linear2.bias",
)


class PlainReference:
    """Trains L separate layers so that tied ones always equal their root."""

    def __init__(self, model, tie_grad, lr, weight_decay, clip):
        shape = model.shape
        self.shape, self.tie_grad = shape, tie_grad
        self.lr, self.weight_decay, self.clip = lr, weight_decay, clip
        self.ties, self.frozen = model.ties.tolist(), model.frozen
        names = list(LIBRARY_NAMES)
        self.names = [names] if model.n_parts == 1 else [names[:6], names[6:]]
        """Of the weights of each part; a unit is a layer, or of parts, first all attentions."""
        self.outside = {
            name: p.detach().clone().requires_grad_()
            for name, p in model.named_parameters()
            if not name.startswith("blocks")
        }
        self.layers = []
        for i in range(shape.n_layer):
            layer = nn.TransformerEncoderLayer(
                shape.n_embd,
                shape.n_head,
                4 * shape.n_embd,
                dropout=0.0,
                activation=lambda x: F.gelu(x, approximate="tanh"),
                norm_first=True,
                batch_first=True,
                dtype=torch.float64,
            )
            with torch.no_grad():
                for unit in range(i, len(self.ties), shape.n_layer):
                    own = model.independent(model.roots[unit]).parameters()
                    for name, value in zip(self.names_of(unit), own, strict=True):
                        layer.get_parameter(name).copy_(value)
            self.layers.append(layer)
        self.moments = {}  # of what trains only, by (unit or "outside", name)

    def names_of(self, unit):
        return self.names[unit // self.shape.n_layer]

    def weight(self, unit, name):
        return self.layers[unit % self.shape.n_layer].get_parameter(name)

    def root(self, unit):
        first = unit - unit % self.shape.n_layer
        while first + self.ties[unit] != unit:
            unit = first + self.ties[unit]
        return unit

    def retie(self, ties, frozen=None):
        units = range(len(self.ties))
        old_roots = [self.root(i) for i in units]
        before = copy.deepcopy(self.moments)
        self.ties = list(ties)
        self.frozen = [False] * len(units) if frozen is None else list(frozen)
        for i, old in enumerate(old_roots):
            for name in self.names_of(i):
                self.moments.pop((i, name), None)
                if self.root(i) == i and not self.frozen[i] and (old, name) in before:
                    self.moments[i, name] = copy.deepcopy(before[old, name])
        weights = {
            (i, n): self.weight(i, n).detach().clone() for i in units for n in self.names_of(i)
        }
        with torch.no_grad():
            for i in units:
                r = self.root(i)  # independent now: it starts from the root that it had before
                for name in self.names_of(i):
                    self.weight(i, name).copy_(weights[old_roots[r], name])

    def logits(self, tokens):
        length = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, dtype=torch.float64)
        x = self.outside["token_embedding"][tokens] + self.outside["position_embedding"][:length]
        for layer in self.layers:
            x = layer(x, src_mask=mask)
        weight, bias = self.outside["final_norm_weight"], self.outside["final_norm_bias"]
        x = F.layer_norm(x, (self.shape.n_embd,), weight, bias)
        return x @ self.outside["token_embedding"].T

    def iterate(self, tokens, targets):
        for p in (*self.outside.values(), *(p for m in self.layers for p in m.parameters())):
            p.grad = None
        logits = self.logits(tokens)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        trained = {("outside", name): (p, p.grad) for name, p in self.outside.items()}
        for i in range(len(self.ties)):
            if self.root(i) != i or self.frozen[i]:
                continue
            for name in self.names_of(i):
                users = [k for k in range(len(self.ties)) if self.root(k) == i]
                users = users if self.tie_grad == "sum" else [i]
                gradient = sum(self.weight(k, name).grad for k in users)
                trained[i, name] = (self.weight(i, name), gradient)
        norm = torch.sqrt(sum((g**2).sum() for _, g in trained.values()))
        scale = min(1.0, self.clip / (norm.item() + 1e-6))
        with torch.no_grad():
            for key, (p, g) in trained.items():
                self.adamw(key, p, g * scale)
            for i in range(len(self.ties)):
                for name in self.names_of(i):
                    self.weight(i, name).copy_(self.weight(self.root(i), name))
        return loss.item()

    def adamw(self, key, p, g, beta_1=0.9, beta_2=0.999, eps=1e-8):
        step, m, v = self.moments.get(key, (0, torch.zeros_like(p), torch.zeros_like(p)))
        step, m, v = step + 1, beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        self.moments[key] = (step, m, v)
        m_hat, v_hat = m / (1 - beta_1**step), v / (1 - beta_2**step)
        p -= self.lr * (m_hat / (v_hat.sqrt() + eps) + self.weight_decay * p)
