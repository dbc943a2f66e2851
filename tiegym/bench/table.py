"""A table: every run of a small transformer, recorded; reading, writing and asking it.

One file in NumPy's npz format, whose ZIP comment holds the SHA-256 of all bytes before it. Nothing
in it is pickled. How tables are made is in `tiegym.bench.make`, and what a file is checked for in
`tiegym.bench.table_checks`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tiegym import ties as tie_vectors
from tiegym.atomic_write import write_bytes
from tiegym.bench import table_checks
from tiegym.bench.table_checks import NoTable
from tiegym.bench.tree import Ints, Tree, grow_tree, sharings
from tiegym.data.sources import HUB

Split = Literal["train", "held-out"]
SPLITS = table_checks.SPLITS

LossKind = Literal["train", "val", "test"]

Judge = Literal["val", "test"]
"""The loss by which an end is judged; agents learn from that of validation."""

NOT_IN_TABLES = (
    *("model", "model_config", "task", "merge"),
    *("tie_parts", "choices", "features", "initial_weights", "embeddings"),
    *("quantize", "factorize"),
)
"""Arguments of TieEnv that have their defaults in every table; older tables don't name them."""

NAMES_IN_TABLES = {
    "corpus": re.compile(
        rf"stdlib|{'|'.join(map(re.escape, HUB))}|synthetic:\d{{1,10}}|nested:\d|hf:[\w.:/-]+",
        re.ASCII,
    ),
    "tokenizer": re.compile(r"bytes|gpt2|word(?:-\d+)?|bpe-\d+", re.ASCII),
}
"""What of these two is followed where a file says it: names, which mean the same on every machine.
Any other word may be a path, and a file must not choose which files its reader opens."""

Floats = npt.NDArray[np.float64]

_MARK = b"sha256:"


@dataclass(frozen=True)
class Table:
    """Recorded runs. Losses are in nats a token; the first axis of each array is the seed.

    Attributes:
        name: Such as tree-4x2-stdlib-owner.
        facts: How it was made: `config` (all fields of the TieConfig), `versions`, `threads`,
            `cpu`, `arithmetic` (see `tiegym.bench.arithmetic`), `corpus_sha256`, `created`,
            `fixed_runs` ("together" where they were trained at a time, which rounds otherwise than
            TieEnv; tables before it have none, and were trained "alone"); and
            what TieEnv says besides losses: `vocab_size`, `bytes_per_token`, `params` and
            `model_state_bytes` (by independent layers, from 1 on).
        seeds: The recorded seeds of each split: of `TieEnv.reset(seed=...)`.
        points: Iterations at which fixed sharings are evaluated, (P,).
        arrays: `fixed_train`, `fixed_val`, `fixed_test` (R, Bell(L), P) of every fixed sharing in
            the order of `tiegym.bench.tree.sharings`; `shallow_train`, `shallow_val`,
            `shallow_test` (R, L-1, P) of untied transformers of 1 to L-1 layers. Of a tree also
            `train`, `val`, `test` (R, S) and `stats` (R, S, L F) of each of its segments: the
            figures after it.
        sha256: Of the file's content, which its checksum says; "" before it is written.
    """

    name: str
    facts: dict[str, Any]
    seeds: dict[str, list[int]]
    points: Ints
    arrays: dict[str, npt.NDArray[Any]]
    sha256: str = ""

    @property
    def n_layer(self) -> int:
        """Layers L."""
        return int(self.facts["config"]["n_layer"])

    @property
    def all_seeds(self) -> list[int]:
        """Those of train, then those of held-out: the first axis of the arrays."""
        return [seed for split in SPLITS for seed in self.seeds[split]]

    @property
    def is_tree(self) -> bool:
        """Whether it holds decisions, or fixed sharings alone."""
        return "val" in self.arrays

    @property
    def tree(self) -> Tree:
        """The tree of decisions.

        Raises:
            ValueError: If the table holds fixed sharings alone.
        """
        if not self.is_tree:
            raise ValueError(
                f"table {self.name!r} holds fixed sharings and no decisions: ask query() or "
                "trajectory(), or take a table whose name begins with tree-"
            )
        return grow_tree(self.n_layer, int(self.facts["n_sweeps"]))

    @property
    def uniform_loss(self) -> float:
        """The loss of a uniform guess, ln(vocabulary size): where every run begins."""
        return float(np.log(self.facts["vocab_size"]))

    def rows_of(self, split: str) -> Ints:
        """The rows of the arrays that belong to a split.

        Raises:
            ValueError: If it is unknown.
        """
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is unknown: choose train or held-out")
        first = 0 if split == "train" else len(self.seeds["train"])
        return first + np.arange(len(self.seeds[split]))

    def row_of(self, seed: int) -> int:
        """The row of a recorded seed.

        Raises:
            ValueError: If it isn't recorded.
        """
        if seed not in self.all_seeds:
            raise ValueError(
                f"seed={seed!r} is not in table {self.name!r}: it has {self.all_seeds}"
            )
        return self.all_seeds.index(seed)

    def sharing_of(self, ties: tie_vectors.TiesLike) -> int:
        """The place of the sharing that a tie vector or a pattern's name stands for.

        Raises:
            ValueError: If it is none, or has another number of layers.
        """
        roots = tie_vectors.roots(tie_vectors.parse(ties, self.n_layer))
        return int(np.flatnonzero((sharings(self.n_layer) == roots).all(axis=1))[0])

    def query(
        self, ties: tie_vectors.TiesLike, iteration: int | None = None, seed: int | None = None
    ) -> dict[str, float]:
        """The losses of a fixed sharing: `train_loss`, `val_loss`, `test_loss`.

        Args:
            ties: A tie vector (any with the same roots asks for the same) or a pattern's name.
            iteration: After how many; None is the end.
            seed: A recorded one; None is the mean over all.

        Raises:
            ValueError: If there is no such sharing, iteration or seed.
        """
        curve = self.trajectory(ties, seed)
        point = len(self.points) - 1
        if iteration is not None:
            if iteration not in self.points:
                raise ValueError(
                    f"iteration={iteration!r} is not in table {self.name!r}: it has "
                    f"{self.points.tolist()}"
                )
            point = int(np.flatnonzero(self.points == iteration)[0])
        return {key: float(values[point]) for key, values in curve.items() if key != "iteration"}

    def trajectory(
        self, ties: tie_vectors.TiesLike, seed: int | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """The curves of a fixed sharing, (P,) each: `iteration` and the losses of `query`."""
        rows = slice(None) if seed is None else slice(self.row_of(seed), self.row_of(seed) + 1)
        place = self.sharing_of(ties)
        result: dict[str, npt.NDArray[Any]] = {"iteration": self.points.copy()}
        for key in ("train", "val", "test"):
            values = self.arrays[f"fixed_{key}"][rows, place]
            result[f"{key}_loss"] = values.astype(np.float64).mean(axis=0)
        return result

    def children(self, node: int = 0) -> list[int]:
        """The nodes after each decision that differs at a node of the tree; [] behind a leaf.

        Raises:
            ValueError: If there is no such node, or no tree.
        """
        tree = self.tree
        if not 0 <= node < len(tree.ties):
            raise ValueError(f"node={node!r} is not in the tree: it has 0 to {len(tree.ties) - 1}")
        row = tree.children[node, : tree.layer[node] + 1].tolist()
        return [] if row[0] < 0 else row

    def losses(self, kind: LossKind) -> Floats:
        """A loss at each node of the tree, (R, N); at the root that of a uniform guess."""
        tree = self.tree
        values = np.empty((len(self.all_seeds), len(tree.ties)))
        values[:, 0] = self.uniform_loss
        values[:, 1:] = self.arrays[kind][:, tree.segment[1:]]
        return values


def shipped_tables() -> list[str]:
    """The names of the tables that come with tiegym."""
    folder = resources.files("tiegym.bench") / "tables"
    if not folder.is_dir():
        return []
    return sorted(f.name.removesuffix(".npz") for f in folder.iterdir() if f.name.endswith(".npz"))


def load_table(name: str | os.PathLike[str]) -> Table:
    """Reads a table and checks it; one that is read again and hasn't changed is the same object.

    Args:
        name: Of a shipped table, or the path of a file that ends in .npz.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, no table, or of another format.
    """
    name = os.fspath(name)
    if name.endswith(".npz"):
        path = Path(name)
        if not path.is_file():
            raise FileNotFoundError(f"table={name!r}: there is no such file")
        found = path.stat()
        if found.st_size > table_checks.LARGEST:
            raise ValueError(
                f"table {name!r} has more than {table_checks.LARGEST} bytes: it is no table"
            )
        return _read(path.resolve(), name, (found.st_ino, found.st_mtime_ns, found.st_size))
    if name not in shipped_tables():
        shipped = f"choose one of {', '.join(shipped_tables())}, or " if shipped_tables() else ""
        raise FileNotFoundError(
            f"table={name!r} is unknown: {shipped}give the path of an .npz file that "
            "`python -m tiegym.bench.make` wrote"
        )
    return _read(None, name)


@lru_cache(maxsize=4)
def _read(path: Path | None, name: str, version: tuple[int, ...] = ()) -> Table:
    """The table in a file, read once as long as the file is the same, which `version` says.

    Args:
        path: Of the file; None is that of a shipped one.
        name: See `load_table`.
        version: Of the file.
    """
    file = path or resources.files("tiegym.bench") / "tables" / f"{name}.npz"
    return read_table(file.read_bytes(), name)


def read_table(content: bytes, name: str) -> Table:
    """The table that the bytes of a file hold; raises as `load_table` does.

    Args:
        content: The whole file.
        name: What errors call it.
    """
    digest = hashlib.sha256(content[:-64]).hexdigest().encode()
    if content[-64 - len(_MARK) : -64] != _MARK or content[-64:] != digest:
        raise ValueError(
            f"table {name!r} is damaged or no table: its content doesn't match its checksum"
        )
    try:
        facts, arrays = table_checks.read_npz(content)
    except NoTable as error:
        raise ValueError(f"table {name!r} {error}") from error
    except Exception as error:  # ZIP and NumPy raise many kinds, by what is wrong where
        raise ValueError(f"table {name!r} is damaged or no table: {error!r:.200}") from error
    for array in arrays.values():  # which all who read the table share
        array.setflags(write=False)
    called, seeds, points = facts.pop("name"), facts.pop("seeds"), arrays.pop("points")
    return Table(called, facts, seeds, points, arrays, sha256=digest.decode())


def write_table(path: Path, table: Table) -> None:
    """Writes a table, whole or not at all; the same table gives the same bytes.

    Raises:
        ValueError: If it is one that `read_table` would refuse.
    """
    facts = {"format": table_checks.FORMAT, "name": table.name, "seeds": table.seeds, **table.facts}
    text = json.dumps(facts, sort_keys=True, allow_nan=False).encode()
    figures = {"points": table.points, **table.arrays}
    try:
        table_checks.check(json.loads(text), figures)
    except NoTable as error:
        raise ValueError(f"table {table.name!r} {error}") from error
    arrays: dict[str, Any] = {"facts": np.frombuffer(text, dtype=np.uint8), **figures}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = _MARK + bytes(64)
    content = buffer.getvalue()[:-64]
    write_bytes(path, content + hashlib.sha256(content).hexdigest().encode())
