"""A transformer that trains in milliseconds, for tests."""

SMALL = {
    "corpus": "synthetic:20000",
    "n_layer": 4,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 16,
    "batch_size": 2,
    "iters_per_step": 2,
    "max_iters": 12,
    "eval_batches": 1,
    "test_tokens": 100,
    "device": "cpu",
}
