from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
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


def npy(array: np.ndarray, **header: object) -> bytes:
    """An array as a member of an archive; its header may say something else."""
    file = io.BytesIO()
    said = {**np.lib.format.header_data_from_array_1_0(array), **header}
    np.lib.format.write_array_header_1_0(file, said)
    return file.getvalue() + array.tobytes()


def members(content: bytes) -> dict[str, bytes]:
    """What is packed in a table's file, by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(packs: dict[str, bytes]) -> bytes:
    """A table's file that holds whatever one likes, and has the checksum of that."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in packs.items():
            archive.writestr(name, content)
        archive.comment = b"sha256:" + bytes(64)
    return signed(buffer.getvalue()[:-64])


def signed(content: bytes) -> bytes:
    """Any bytes with their checksum behind them."""
    return content + hashlib.sha256(content).hexdigest().encode()


def with_facts(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A table's file whose facts were changed."""
    packs = members(content)
    facts = json.loads(np.load(io.BytesIO(packs["facts.npy"])).tobytes())
    change(facts)
    text = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)
    return packed({**packs, "facts.npy": npy(text)})
