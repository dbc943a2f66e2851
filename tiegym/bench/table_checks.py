"""Whether a file is a table, found out before what it says takes memory or time.

Anybody may have written a file, and its checksum with it. So what says how much there is, is
checked first, and the arrays are read last. What a table is for is in `tiegym.bench.table`.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tiegym.bench.tree import grow_tree
from tiegym.runs.json_files import loads

FORMAT = 1
"""Raised when a reader of the last version would misread a table."""

SPLITS = ("train", "held-out")

LARGEST = 2**28
"""Bytes of a file, and of what is packed in it: the shipped ones have a few MB."""

LARGEST_FACTS = 2**20
"""Bytes of what a file says in words; the shipped ones say less than 2,000."""

MOST_LAYERS = 9
"""Of one sweep of 9 layers there are 362,880 sequences; `tiegym.bench.make` makes no more."""

HIGHEST_LOSS = 80.0
"""Nats; no `divergence_loss` is higher."""

LOSSES = ("train", "val", "test")

Layout: TypeAlias = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
"""The type and the shape of each array."""

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

_MOST = 2**62  # of any number that is counted with


class NoTable(ValueError):
    """What a file holds is no table; the message goes on where the table was named."""


def read_npz(content: bytes) -> tuple[dict[str, Any], Arrays]:
    """What a file says in words, and its arrays, once both are known to be a table's.

    Args:
        content: Of the whole file, at most `LARGEST` bytes.

    Raises:
        NoTable: If they aren't.
        Exception: Of many kinds, by what is wrong with the archive.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = _entries(archive)
        layout = {}
        for name, entry in entries.items():
            with archive.open(entry) as file:
                layout[name] = _header(name, file, entry.file_size)[:2]
        facts = _read_facts(archive, entries, layout)
        _check_facts(facts)
        _check_layout(facts, layout)
        arrays = {name: _read(archive, name, entries[name]) for name in layout if name != "facts"}
    _check_values(facts, arrays)
    return facts, arrays


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by the names of their arrays."""
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(".npy")
        if name == entry.filename or name in found:
            raise NoTable(f"is damaged: {entry.filename!r} is no array, or is there twice")
        found[name] = entry
    if sum(entry.file_size for entry in found.values()) > LARGEST:
        raise NoTable(f"would take more than {LARGEST} bytes of memory")
    return found


def _header(name: str, file: IO[bytes], size: int) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """The type of an array, its shape, and whether it is stored column by column."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise NoTable(f"is damaged: array {name} has the version {version} of its format")
    if dtype.hasobject or file.tell() + math.prod(shape) * dtype.itemsize != size:
        raise NoTable(f"is damaged: array {name} says {dtype} {shape}, and has {size} bytes")
    return dtype, shape, by_column


def _read(archive: zipfile.ZipFile, name: str, entry: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """An array that can't be written to."""
    with archive.open(entry) as file:
        dtype, shape, by_column = _header(name, file, entry.file_size)
        values = np.frombuffer(file.read(), dtype=dtype)
    return values.reshape(shape, order="F" if by_column else "C")


def _read_facts(
    archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], layout: Layout
) -> dict[str, Any]:
    dtype, shape = layout.get("facts", (None, ()))
    if dtype != np.uint8 or len(shape) != 1 or shape[0] > LARGEST_FACTS:
        raise NoTable(f"is damaged: it has no facts, or more than {LARGEST_FACTS} bytes of them")
    facts = loads(_read(archive, "facts", entries["facts"]).tobytes())
    if not isinstance(facts, dict):
        raise NoTable("is damaged: its facts are no JSON object")
    return facts


def check(facts: Mapping[str, Any], arrays: Arrays) -> None:
    """Checks what is to be written.

    Args:
        facts: With `format`, `name` and `seeds`, as they come back from JSON.
        arrays: All, `points` among them.

    Raises:
        NoTable: If a reader would refuse it.
    """
    _check_facts(facts)
    _check_layout(facts, {name: (array.dtype, array.shape) for name, array in arrays.items()})
    _check_values(facts, arrays)


def _check_facts(facts: Mapping[str, Any]) -> None:
    """Checks what a file says of the table and of how it was made, but for what trees say.

    Args:
        facts: With `format`, `name` and `seeds`.

    Raises:
        NoTable: If it is wrong.
    """
    if facts.get("format") != FORMAT:
        raise NoTable(
            f"has format {facts.get('format')!r:.80}, but this tiegym reads {FORMAT}: use the "
            "version that made it"
        )
    name, config = facts.get("name"), facts.get("config")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise NoTable(
            f"calls itself {name!r:.80}: names are letters, digits, -, _ and ., and results go "
            "into folders of these names"
        )
    if not isinstance(config, dict):
        raise _wrong("config", config, "the arguments of a TieEnv")
    if not _is_count(config.get("n_layer"), 2, MOST_LAYERS):
        raise _wrong("config.n_layer", config.get("n_layer"), f"from 2 to {MOST_LAYERS}")
    if not _is_number(_ceiling(facts), HIGHEST_LOSS):
        raise _wrong("config.divergence_loss", _ceiling(facts), f"in (0, {HIGHEST_LOSS:g}]")
    _check_seeds(facts.get("seeds"))


def _check_seeds(seeds: Any) -> None:
    given = seeds if isinstance(seeds, dict) else {}
    splits: list[Any] = [given.get(split) for split in SPLITS]
    if not all(isinstance(split, list) and split for split in splits):
        raise _wrong("seeds", seeds, f"lists of recorded seeds by split, {' and '.join(SPLITS)}")
    every = [seed for split in splits for seed in split]
    if not all(_is_count(seed, 0) for seed in every) or len(set(every)) < len(every):
        raise _wrong("seeds", seeds, "integers, 0 or more, each in one split and once")


def _check_layout(facts: Mapping[str, Any], layout: Layout) -> None:
    """Checks that the arrays are those of a table, without reading them.

    Args:
        facts: Checked.
        layout: Of all arrays, the iterations of the curves (`points`) among them.

    Raises:
        NoTable: If some are missing, too many, or of other shapes or types, or if the facts of a
            tree are wrong.
    """
    shapes = {name: shape for name, (_, shape) in layout.items() if name not in ("facts", "points")}
    dtype, points = layout.get("points", (None, ()))
    if dtype != np.int64 or len(points) != 1 or points[0] < 1:
        raise NoTable(f"is damaged: its points are {dtype} {points}, and must be int64 (P,)")
    n, r = facts["config"]["n_layer"], sum(len(facts["seeds"][split]) for split in SPLITS)
    expected: dict[str, tuple[int, ...]] = {}
    for key in LOSSES:
        expected[f"fixed_{key}"] = (r, count_sharings(n), *points)
        expected[f"shallow_{key}"] = (r, n - 1, *points)
    if "val" in shapes:
        _check_tree_facts(facts, n)
        segments = grow_tree(n, facts["n_sweeps"]).n_segments
        expected |= {key: (r, segments) for key in LOSSES} | {"stats": (r, segments, 3 * n)}
    if shapes != expected:
        raise NoTable(f"is damaged: its arrays are {shapes!s:.800}, but must be {expected}")
    for name in shapes:
        if layout[name][0] not in (np.float32, np.float64):
            raise NoTable(f"is damaged: array {name} is {layout[name][0]}, and must be a float")


def _check_tree_facts(facts: Mapping[str, Any], n_layer: int) -> None:
    """Checks what the environment on a tree says besides losses."""
    if not _is_count(facts.get("n_sweeps"), 1, 64):
        raise _wrong("n_sweeps", facts.get("n_sweeps"), "a number of sweeps")
    if not _is_count(facts.get("vocab_size"), 2, 2**31):
        raise _wrong("vocab_size", facts.get("vocab_size"), "a number of tokens")
    if not isinstance(facts.get("corpus_sha256"), str):
        raise _wrong("corpus_sha256", facts.get("corpus_sha256"), "text")
    for name in ("params", "model_state_bytes"):
        values = facts.get(name)
        given = values if isinstance(values, list) else []
        if len(given) != n_layer or not all(_is_count(value, 0) for value in given):
            raise _wrong(name, values, f"{n_layer} integers, by independent layers")
    lengths = facts.get("bytes_per_token")
    given = [lengths.get(k) for k in ("validation", "test")] if isinstance(lengths, dict) else []
    if not given or not all(_is_number(length, _MOST) for length in given):
        raise _wrong("bytes_per_token", lengths, "positive numbers for validation and test")


def _check_values(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Checks that what is recorded can be: losses in nats, iterations that rise.

    Args:
        facts: Checked.
        arrays: Of the shapes of a table.

    Raises:
        NoTable: If something can't be.
    """
    points = arrays["points"]
    if points[0] < 1 or (np.diff(points) < 1).any() or points[-1] > _MOST:
        raise NoTable(f"is damaged: its points are {points.tolist()}, and must rise from 1 on")
    for name, values in arrays.items():
        kind = name.removeprefix("fixed_").removeprefix("shallow_")
        if kind in LOSSES:
            # What ends a run is the loss of training and of validation.
            highest = HIGHEST_LOSS if kind == "test" else _ceiling(facts)
            if not ((values >= 0) & (values <= highest)).all():
                raise NoTable(f"has {name} losses that are not from 0 to {highest:g} nats")
    stats = arrays.get("stats", np.zeros(1))
    if not (np.abs(stats) <= 1).all():
        raise NoTable("has stats that are not from -1 to 1")


def count_sharings(n_layer: int) -> int:
    """How many sharings L layers have, Bell(L), without making them.

    Examples:
        >>> [count_sharings(n) for n in range(1, 7)]
        [1, 2, 5, 15, 52, 203]
    """
    row = [1]
    for _ in range(n_layer - 1):
        following = [row[-1]]
        for entry in row:
            following.append(following[-1] + entry)
        row = following
    return row[-1]


def _ceiling(facts: Mapping[str, Any]) -> Any:
    """The loss at which a run counts as diverged; what a table doesn't name was the default."""
    return facts["config"].get("divergence_loss", 20.0)


def _is_count(value: Any, least: int, most: int = _MOST) -> bool:
    return type(value) is int and least <= value <= most


def _is_number(value: Any, most: float) -> bool:
    return type(value) in (int, float) and 0 < value <= most


def _wrong(name: str, value: Any, must: str) -> NoTable:
    return NoTable(f"is damaged: its {name} is {value!r:.80}, and must be {must}")
