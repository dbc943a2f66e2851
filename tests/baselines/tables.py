"""A table of which the best decisions are known, made without training."""

import dataclasses
from pathlib import Path

import numpy as np

from tiegym.bench.table import Table, write_table
from tiegym.bench.tree import grow_tree, sharings
from tiegym.config import TieConfig

DECISIONS = (100, 200)
BEST = (0, 1, 1)
"""The ties that a run had better end with."""


def made_table(folder: Path, shift: float = 0.0) -> Path:
    """Writes a tree of 3 layers, 2 sweeps, and 3 + 2 recorded seeds; returns its file.

    The loss falls by 0.5 nats where layers 1 and 2 share weights of their own, as in `BEST`, and
    by a little at random.

    Args:
        folder: Where to.
        shift: Of all losses, in nats.
    """
    tree, rng, vectors = grow_tree(3, 2), np.random.default_rng(0), sharings(3)
    good = np.zeros(tree.n_segments)
    for node in range(1, len(tree.ties)):
        good[tree.segment[node]] = tree.ties[node].tolist() == list(BEST)

    def losses(shape: tuple[int, ...], better: np.ndarray | float) -> np.ndarray:
        return shift + 2 - 0.5 * better + rng.uniform(0, 0.02, size=(5, *shape))

    arrays: dict[str, np.ndarray] = {
        "stats": rng.uniform(-0.1, 0.1, size=(5, tree.n_segments, 9)).astype(np.float32)
    }
    fixed = (vectors == BEST).all(axis=1)[:, None]
    for key, kind in (("train", np.float64), ("val", np.float32), ("test", np.float64)):
        arrays[key] = losses((tree.n_segments,), good).astype(kind)
        arrays[f"fixed_{key}"] = losses((len(vectors), 4), fixed).astype(kind)
        arrays[f"shallow_{key}"] = losses((2, 4), 0.0).astype(kind)
    config = TieConfig(n_layer=3, n_head=2, n_embd=16, block_size=16, iters_per_step=2, max_iters=8)
    facts = {
        "n_sweeps": 2,
        "config": {**dataclasses.asdict(config), "corpus": "elsewhere"},
        "vocab_size": 256,
        "bytes_per_token": {"validation": 1.0, "test": 1.0},
        "params": [1000, 2000, 3000],
        "model_state_bytes": [12_000, 24_000, 36_000],
        "corpus_sha256": "0" * 64,
    }
    path = folder / "tree-3x2-made-sum.npz"
    seeds = {"train": [0, 1, 2], "held-out": [3, 4]}
    write_table(path, Table(path.stem, facts, seeds, np.array([2, 4, 6, 8]), arrays))
    return path
