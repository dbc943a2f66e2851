"""The settings of studies: how large transformers are, on which text, for how long."""

from __future__ import annotations

from tiegym.config import TieConfig

SMALL = TieConfig(n_embd=48, block_size=48, max_iters=400)
"""Small enough for hundreds of runs on two cores. Depth doesn't pay in it (docs/results.md)."""

DEEP = TieConfig(
    corpus="nested:5",
    n_layer=4,
    n_head=2,
    n_embd=32,
    block_size=16,
    batch_size=48,
    learning_rate=5e-3,
    warmup_iters=100,
    lr_decay="cosine",
    max_iters=3000,
    iters_per_step=300,
    eval_batches=8,
    test_tokens=30_000,
    tie_grad="sum",
    device="cpu",
)
"""In which four untied layers are clearly better than two, and these than one (docs/results.md)."""
