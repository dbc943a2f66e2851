"""The semantics of tying, written a second time and as plainly as possible.

L full PyTorch layers of the library's own (`nn.TransformerEncoderLayer`), weights copied out one
by one to every layer that uses them, AdamW and clipping by their formulas. Slow and in float64.
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
        self.ties = model.ties.tolist()
        self.outside = {
            name: p.detach().clone().requires_grad_()
            for name, p in model.named_parameters()
            if not name.startswith("blocks")
        }
        self.layers = []
        for root in model.roots:
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
            own = model.independent(root).weights
            with torch.no_grad():
                for name, value in zip(LIBRARY_NAMES, own, strict=True):
                    layer.get_parameter(name).copy_(value)
            self.layers.append(layer)
        self.moments = {}  # of independent layers only, by (layer or "outside", name)

    def root(self, layer):
        while self.ties[layer] != layer:
            layer = self.ties[layer]
        return layer

    def retie(self, ties):
        old_roots = [self.root(i) for i in range(len(self.layers))]
        before = copy.deepcopy(self.moments)
        self.ties = list(ties)
        for i, old in enumerate(old_roots):
            for name in LIBRARY_NAMES:
                self.moments.pop((i, name), None)
                if self.ties[i] == i and (old, name) in before:
                    self.moments[i, name] = copy.deepcopy(before[old, name])
        weights = [copy.deepcopy(layer.state_dict()) for layer in self.layers]
        for i, layer in enumerate(self.layers):
            r = self.root(i)  # independent now: it starts from the root that it had before
            layer.load_state_dict(weights[old_roots[r]])

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
        for i, layer in enumerate(self.layers):
            if self.ties[i] != i:
                continue
            for name in LIBRARY_NAMES:
                users = [k for k in range(len(self.layers)) if self.root(k) == i]
                users = users if self.tie_grad == "sum" else [i]
                gradient = sum(self.layers[k].get_parameter(name).grad for k in users)
                trained[i, name] = (layer.get_parameter(name), gradient)
        norm = torch.sqrt(sum((g**2).sum() for _, g in trained.values()))
        scale = min(1.0, self.clip / (norm.item() + 1e-6))
        with torch.no_grad():
            for key, (p, g) in trained.items():
                self.adamw(key, p, g * scale)
            for i, layer in enumerate(self.layers):
                layer.load_state_dict(self.layers[self.root(i)].state_dict())
        return loss.item()

    def adamw(self, key, p, g, beta_1=0.9, beta_2=0.999, eps=1e-8):
        step, m, v = self.moments.get(key, (0, torch.zeros_like(p), torch.zeros_like(p)))
        step, m, v = step + 1, beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        self.moments[key] = (step, m, v)
        m_hat, v_hat = m / (1 - beta_1**step), v / (1 - beta_2**step)
        p -= self.lr * (m_hat / (v_hat.sqrt() + eps) + self.weight_decay * p)
