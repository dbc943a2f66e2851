"""Cross-entropy over a large vocabulary without ever holding all logits."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
    """Mean cross-entropy in nats of the logits ``hidden @ weight.T``, a scalar.

    The logits exist for `chunk` tokens at a time. The gradients that are needed are computed in the
    same pass, while the logits are there, so that nothing is computed twice and nothing of size
    (N, V) is kept for the backward pass.

    Args:
        hidden: Final hidden states, (N, C).
        weight: The output head, (V, C), cast here to the dtype of `hidden`. Its gradient, in its
            own dtype, sums up the chunks in float32.
        targets: Token ids, int64 (N,).
        chunk: Tokens at a time, at least 1.

    Returns:
        float32, or float64 for float64 inputs.
    """
    if torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad):
        loss: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets, chunk)  # type: ignore[no-untyped-call]
        return loss
    wide = torch.promote_types(hidden.dtype, torch.float32)
    total = torch.zeros((), dtype=wide, device=hidden.device)
    weight = weight.to(hidden.dtype)
    for h, t in zip(hidden.split(chunk), targets.split(chunk), strict=True):  # type: ignore[no-untyped-call]
        total += F.cross_entropy(F.linear(h, weight).to(wide), t, reduction="sum")
    return total / len(targets)


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, chunk: int) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        of_hidden, of_weight, *_ = ctx.needs_input_grad
        hidden_grad = torch.empty_like(hidden) if of_hidden else None
        weight_grad = torch.zeros_like(weight, dtype=wide) if of_weight else None
        head = weight.to(hidden.dtype)
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            h, t = hidden[part], targets[part, None]
            logits = F.linear(h, head).to(wide)
            log_z = logits.logsumexp(dim=1, keepdim=True)
            total += (log_z - logits.gather(1, t)).sum()
            # The gradient of the mean: softmax less one at the target, over N; in place.
            grad = logits.sub_(log_z).exp_()
            grad.scatter_add_(1, t, grad.new_full(t.shape, -1.0))
            grad = grad.div_(len(targets)).to(hidden.dtype)
            del logits  # at low precision `grad` is a smaller copy by now
            if hidden_grad is not None:
                torch.mm(grad, head, out=hidden_grad[part])
            if weight_grad is not None:
                if wide == hidden.dtype:
                    weight_grad.addmm_(grad.T, h)
                else:  # sums over chunks stay in float32
                    weight_grad += grad.T @ h
        kept = None if weight_grad is None else weight_grad.to(weight.dtype)
        ctx.save_for_backward(hidden_grad, kept)
        return total / len(targets)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        # In place: a copy would be as large as the head. Autograd refuses a second backward pass.
        hidden, weight = (None if kept is None else kept.mul_(grad) for kept in ctx.saved_tensors)
        return hidden, weight, None, None
