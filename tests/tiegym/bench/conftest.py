from __future__ import annotations

from pathlib import Path

import pytest

from tiegym.bench.make import Options
from tiegym.bench.table import Table, load_table
from tiegym.config import TieConfig

TINY = TieConfig(
    n_head=2,
    n_embd=16,
    block_size=16,
    batch_size=4,
    iters_per_step=3,
    eval_batches=1,
    test_tokens=200,
    learning_rate=1e-2,
)


def options(folder: Path, table: str, **changes: object) -> Options:
    values = {"corpus": "synthetic:20000", "env": TINY, "seeds": 2, "held_out": 1, "points": 3}
    return Options(table, out=folder, quiet=True, **{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def tree_table(tree_file: Path) -> Table:
    return load_table(str(tree_file))
