"""A fingerprint of how a machine rounds: equal ones train to the same bits.

Sums depend on the order of their terms, and that on processor, PyTorch and number of threads. Names
and versions say much of it; this is what is left to see.
"""

from __future__ import annotations

import hashlib

from tiegym.config import TieConfig


def arithmetic(config: TieConfig) -> str:
    """SHA-256, 16 digits, of what PyTorch computes here of fixed numbers in this setting's sizes.

    It takes what a training iteration is made of, in forward and backward passes and an AdamW step,
    and nothing of this project's own: an error there can't change it.

    Args:
        config: Its width, heads, context and batch are the sizes.
    """
    import torch
    import torch.nn.functional as F

    width, heads = config.n_embd, config.n_head
    batch, length = config.batch_size, config.block_size
    generator = torch.Generator().manual_seed(0)

    def numbers(*size: int) -> torch.Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float32)

    weights = [
        p.div_(width**0.5).requires_grad_()
        for p in (numbers(3 * width, width), numbers(4 * width, width), numbers(width, 4 * width))
    ]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    targets = torch.randint(width, (batch * length,), generator=generator)
    inputs = numbers(batch, length, width)
    digest = hashlib.sha256()
    for _ in range(3):
        optimizer.zero_grad()
        h = F.layer_norm(inputs, (width,))
        qkv = F.linear(h, weights[0]).view(batch, length, 3, heads, width // heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        h = inputs + h.transpose(1, 2).reshape(batch, length, width)
        h = h + F.linear(F.gelu(F.linear(h, weights[1]), approximate="tanh"), weights[2])
        loss = F.cross_entropy(h.view(-1, width), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        for tensor in (loss.detach(), *(w.detach() for w in weights)):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]
