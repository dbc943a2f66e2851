"""What tiegym is measured against: GPT-2 as plain PyTorch, trained by a plain loop.

Written as one would write it without tiegym: `nn.Module` blocks with weights of their own, SDPA,
full logits, AdamW's fused kernel, clipping, and `.item()` for logging. bfloat16 comes from
autocast ("bfloat16-mixed") or from weights in bfloat16 ("bfloat16"). Nothing of tiegym's is used.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tiegym.transformer.block import Shape


class PlainBlock(nn.Module):
    """A GPT-2 block."""

    def __init__(self, n_embd: int, n_head: int, dropout: float) -> None:
        """Makes the layers, with PyTorch's own initial values."""
        super().__init__()
        self.n_head, self.dropout = n_head, dropout
        self.norm_1, self.norm_2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)
        self.qkv, self.out = nn.Linear(n_embd, 3 * n_embd), nn.Linear(n_embd, n_embd)
        self.mlp_in, self.mlp_out = nn.Linear(n_embd, 4 * n_embd), nn.Linear(4 * n_embd, n_embd)
        self.gelu = nn.GELU(approximate="tanh")
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        batch, length, width = x.shape
        heads = (batch, length, self.n_head, width // self.n_head)
        q, k, v = self.qkv(self.norm_1(x)).split(width, dim=2)
        q, k, v = (t.view(heads).transpose(1, 2) for t in (q, k, v))
        dropout = self.dropout if self.training else 0.0
        h = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        x = x + self.drop(self.out(h.transpose(1, 2).reshape(batch, length, width)))
        h = self.mlp_out(self.gelu(self.mlp_in(self.norm_2(x))))
        result: Tensor = x + self.drop(h)
        return result


class PlainGPT(nn.Module):
    """GPT-2 whose head is its token embedding; no layer shares weights.

    Args:
        shape: Its sizes.
        dropout: On embeddings, attention and residual branches.
        checkpoint_activations: Whether blocks are computed again in the backward pass.
    """

    def __init__(
        self, shape: Shape, dropout: float = 0.0, checkpoint_activations: bool = False
    ) -> None:
        """Makes the layers; embeddings and head start at GPT-2's scale."""
        super().__init__()
        self.checkpoint_activations = checkpoint_activations
        self.tokens = nn.Embedding(shape.vocab_size, shape.n_embd)
        self.positions = nn.Embedding(shape.block_size, shape.n_embd)
        nn.init.normal_(self.tokens.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.drop = nn.Dropout(dropout)
        blocks = (PlainBlock(shape.n_embd, shape.n_head, dropout) for _ in range(shape.n_layer))
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(shape.n_embd)
        self.head = nn.Linear(shape.n_embd, shape.vocab_size, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of next tokens; both arguments are (B, T)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.tokens(tokens) + self.positions(positions))
        for layer in self.blocks:
            x = (
                checkpoint(layer, x, use_reentrant=False)
                if self.checkpoint_activations
                else layer(x)
            )
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


class PlainLoop:
    """A plain training loop over a token array.

    Args:
        shape: Of the model.
        tokens: The training split, int64 (N,).
        batch_size: Sequences a batch.
        dtype: "float32", "bfloat16-mixed" (autocast) or "bfloat16" (weights too).
        device: Where it trains.
        dropout: See `PlainGPT`.
        checkpoint_activations: See `PlainGPT`.
    """

    def __init__(
        self,
        shape: Shape,
        tokens: np.ndarray,
        batch_size: int,
        dtype: str,
        device: torch.device,
        dropout: float = 0.0,
        checkpoint_activations: bool = False,
    ) -> None:
        """Makes model and optimiser."""
        self.device, self.tokens, self.batch_size = device, tokens, batch_size
        self.block_size = shape.block_size
        weights = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        with device:
            self.model = PlainGPT(shape, dropout, checkpoint_activations).to(weights)
        self.autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=dtype == "bfloat16-mixed"
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-4, weight_decay=0.01, fused=True
        )
        self.loss = math.nan

    def iterate(self, n: int) -> None:
        """Runs n iterations and leaves the last loss, in nats, in `loss`."""
        for _ in range(n):
            inputs, targets = self._batch()
            # Before the forward pass: gradients beside its activations would raise the peak.
            self.optimizer.zero_grad(set_to_none=True)
            with self.autocast:
                loss = self.model(inputs, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.loss = loss.item()

    def _batch(self) -> tuple[Tensor, Tensor]:
        starts = np.random.randint(len(self.tokens) - self.block_size - 1, size=self.batch_size)
        rows = [self.tokens[s : s + self.block_size + 1] for s in starts]
        window = torch.from_numpy(np.stack(rows)).to(self.device)
        return window[:, :-1], window[:, 1:]
