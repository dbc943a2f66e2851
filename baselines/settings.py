"""The settings of studies: how large transformers are, on which text, for how long."""

from __future__ import annotations

from typing import Any

from tiegym.config import TieConfig

SMALL = TieConfig(n_embd=48, block_size=48, max_iters=400)
"""Small enough for hundreds of runs on two cores. Depth doesn't pay in it (docs/results.md)."""

MAIN = TieConfig(
    n_head=2,
    n_embd=32,
    block_size=32,
    batch_size=16,
    learning_rate=1e-2,
    warmup_iters=100,
    lr_decay="cosine",
    init_std=0.1,
    max_iters=2000,
    iters_per_step=20,
    eval_batches=4,
    tie_grad="sum",
    device="cpu",
)
"""The main studies': long enough, and started well enough, that depth pays on real text."""

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
    init_std=0.1,
    max_iters=1000,
    iters_per_step=50,
    eval_batches=8,
    test_tokens=30_000,
    tie_grad="sum",
    device="cpu",
)
"""In which four untied layers are clearly better than two, and these than one (docs/results.md)."""

_INIT: dict[str, Any] = {"model_config": '{"initializer_range": 0.08}'}
"""Of types of `transformers`: their default is 0.02, made for a width of 768. The same share of
1 / sqrt(width) is 0.02 * sqrt(768 / 48) = 0.08 here. With 0.02, BERT had learnt letter frequencies
and no more after 240 iterations, and ViT of 6 layers had guessed."""

MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {"corpus": "stdlib", "max_iters": 240, **_INIT},
    "llama": {"corpus": "stdlib", "max_iters": 240, **_INIT},
    "bert": {
        "corpus": "nested:2",
        "block_size": 16,
        "batch_size": 32,
        "max_iters": 480,
        "iters_per_step": 8,
        "test_tokens": 30_000,
        **_INIT,
    },
    "vit": {"corpus": "digits", "max_iters": 240, **_INIT},
}
"""Types of the library `transformers`, and in what each differs from `SMALL` (docs/results.md):
what it takes to learn more than frequencies in 60 decisions and few seconds."""
