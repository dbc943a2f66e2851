"""What is private to a layer, and soft tie changes, written a second time and plainly.

Every layer has copies of all weights that it uses, and its matrices are summed up before they are
used; singular values are PyTorch's own. Slow and in float64. Parts that share weights apart, and
what is frozen, are as in `tiegym.parts`.
"""

import copy
import math

import torch
import torch.nn.functional as F

MATRICES = {"qkv": (3, 1), "attention_out": (1, 1), "mlp_in": (4, 1), "mlp_out": (1, 4)}
SCALES = {"attention_out": "attention_scale", "mlp_out": "mlp_scale"}


class PrivateReference:
    """Trains L separate layers; `shared` of tied units always equals that of their root."""

    def __init__(self, model, tie_grad, soft, lr, weight_decay, clip):
        self.shape, self.tie_grad, self.soft = model.shape, tie_grad, soft
        self.lr, self.weight_decay, self.clip = lr, weight_decay, clip
        self.ties, self.frozen = model.ties.tolist(), model.frozen
        self.units = range(len(self.ties))

        def copied(module):
            return {name: p.detach().clone() for name, p in module.named_parameters()}

        self.outside = {name: p for name, p in copied(model).items() if "." not in name}
        self.shared = [copied(model.independent(root)) for root in model.roots]
        self.private = [copied(part) for part in model.private] or [{}] * model.n_layer
        self.moments = {}  # by (kind, unit or layer, name); of what trains only

    def root(self, unit):
        first = unit - unit % self.shape.n_layer
        while first + self.ties[unit] != unit:
            unit = first + self.ties[unit]
        return unit

    def unit_of(self, layer, matrix):
        """The unit of a layer that has a matrix: the layer, or with two parts one of them."""
        return next(u for u in self.units[layer :: self.shape.n_layer] if self.has(u, matrix))

    def has(self, unit, matrix):
        return f"{matrix}_weight" in self.shared[unit]

    def matrix(self, layer, name):
        """What a layer multiplies by: W + B A."""
        private = self.private[layer]
        weight = self.shared[self.unit_of(layer, name)][f"{name}_weight"]
        return (
            weight + private[f"{name}_b"] @ private[f"{name}_a"]
            if f"{name}_b" in private
            else weight
        )

    def retie(self, ties, frozen=None):
        n_layer, units = self.shape.n_layer, self.units
        old_roots = [self.root(i) for i in units]
        matrices = {(u, name): u % n_layer for u in units for name in MATRICES if self.has(u, name)}
        before = {key: self.matrix(layer, key[1]) for key, layer in matrices.items()}
        old_shared, old_moments = copy.deepcopy(self.shared), copy.deepcopy(self.moments)
        self.ties = list(ties)
        self.frozen = [False] * len(units) if frozen is None else list(frozen)
        roots = [self.root(i) for i in units]
        for i in units:
            self.shared[i] = copy.deepcopy(old_shared[old_roots[roots[i]]])
            for name in self.shared[i]:
                self.moments.pop(("shared", i, name), None)
                moments = old_moments.get(("shared", old_roots[i], name))
                if roots[i] == i and not self.frozen[i] and moments is not None:
                    self.moments["shared", i, name] = copy.deepcopy(moments)
        if not self.soft:
            return
        new_own = [i for i in units if roots[i] == i and old_roots[i] != i]
        for i, name in matrices:  # what a root has taken in, its followers have, too
            if roots[i] in new_own:
                self.shared[i][f"{name}_weight"] = before[roots[i], name].clone()
        for (i, name), layer in matrices.items():
            if i in new_own:
                self.set_term(layer, name, self.private[layer][f"{name}_a"], 0.0)
            elif roots[i] not in (i, old_roots[i]):
                lost = before[i, name] - self.shared[i][f"{name}_weight"]
                u, s, vh = torch.linalg.svd(lost, full_matrices=False)
                rank = self.shape.private_parts.rank
                b = (u * s)[:, :rank] * math.sqrt(3)
                self.set_term(layer, name, vh[:rank] / math.sqrt(3), b)

    def set_term(self, layer, name, a, b):
        private = self.private[layer]
        private[f"{name}_a"] = a.clone()
        private[f"{name}_b"] = torch.zeros_like(private[f"{name}_b"]) + b
        for key in ("a", "b"):
            self.moments.pop(("private", layer, f"{name}_{key}"), None)

    def logits(self, tokens):
        shape = self.shape
        batch, length = tokens.shape
        x = self.outside["token_embedding"][tokens] + self.outside["position_embedding"][:length]
        future = torch.full((length, length), -math.inf, dtype=x.dtype).triu(1)
        for i in range(shape.n_layer):
            shared = [self.shared[unit] for unit in self.units[i :: shape.n_layer]]
            own = {k: p for kept in (*shared, self.private[i]) for k, p in kept.items()}

            def linear(h, name, own=own, i=i):
                return h @ self.matrix(i, name).T + own[f"{name}_bias"]

            def norm(h, name, own=own):
                return F.layer_norm(h, h.shape[-1:], own[f"{name}_weight"], own[f"{name}_bias"])

            heads = linear(norm(x, "norm_1"), "qkv").view(batch, length, 3, shape.n_head, -1)
            q, k, v = heads.permute(2, 0, 3, 1, 4)
            scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + future
            h = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
            x = x + own.get("attention_scale", 1) * linear(h, "attention_out")
            h = F.gelu(linear(norm(x, "norm_2"), "mlp_in"), approximate="tanh")
            x = x + own.get("mlp_scale", 1) * linear(h, "mlp_out")
        weight, bias = self.outside["final_norm_weight"], self.outside["final_norm_bias"]
        x = F.layer_norm(x, (shape.n_embd,), weight, bias)
        return x @ self.outside["token_embedding"].T

    def weights(self):
        """All copies by (kind, layer, name)."""
        return {
            **{("outside", 0, name): p for name, p in self.outside.items()},
            **{("shared", i, n): p for i, own in enumerate(self.shared) for n, p in own.items()},
            **{("private", i, n): p for i, own in enumerate(self.private) for n, p in own.items()},
        }

    def iterate(self, tokens, targets):
        weights = self.weights()
        for p in weights.values():
            p.requires_grad_().grad = None
        loss = F.cross_entropy(self.logits(tokens).flatten(0, 1), targets.flatten())
        loss.backward()
        gradients = {}
        for (kind, layer, name), p in weights.items():
            if kind != "shared":
                gradients[kind, layer, name] = p.grad
            elif self.root(layer) == layer and not self.frozen[layer]:
                users = [k for k in self.units if self.root(k) == layer]
                users = users if self.tie_grad == "sum" else [layer]
                gradients[kind, layer, name] = sum(self.shared[k][name].grad for k in users)
        total = torch.sqrt(sum((g**2).sum() for g in gradients.values()))
        scale = min(1.0, self.clip / (total.item() + 1e-6))
        with torch.no_grad():
            for key, gradient in gradients.items():
                self.adamw(key, weights[key], gradient * scale)
            for p in weights.values():
                p.requires_grad_(False)
            for i in self.units:
                self.shared[i] = {n: p.clone() for n, p in self.shared[self.root(i)].items()}
        return loss.item()

    def adamw(self, key, p, g, beta_1=0.9, beta_2=0.999, eps=1e-8):
        step, m, v = self.moments.get(key, (0, torch.zeros_like(p), torch.zeros_like(p)))
        step, m, v = step + 1, beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g**2
        self.moments[key] = (step, m, v)
        m_hat, v_hat = m / (1 - beta_1**step), v / (1 - beta_2**step)
        p -= self.lr * (m_hat / (v_hat.sqrt() + eps) + self.weight_decay * p)
