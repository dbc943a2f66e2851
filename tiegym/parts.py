"""Ties of layers whose parts may share weights apart from each other. NumPy only.

With `tie_parts="block"` a layer has one part, and its ties are a tie vector as in `tiegym.ties`.
With "attention+mlp" it has two, and the ties are two tie vectors one behind the other, (2L,): that
of the attention parts, then that of the MLP parts. A place in them is a *unit*: unit p L + i is
part p of layer i, and uses the weights of a unit of the same part. With one part, units are layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from tiegym import ties as tie_vectors
from tiegym.ties import Ties, TiesLike

PARTS: dict[str, tuple[str, ...]] = {"block": ("block",), "attention+mlp": ("attention", "mlp")}
"""The names of a layer's parts for each `tie_parts`, in the order of their tie vectors."""


def validate(ties: Sequence[int] | npt.NDArray[np.integer], n_layer: int, n_parts: int = 1) -> Ties:
    """A fresh copy of the ties of all parts, int64 (P L,), once they are known to be some.

    Args:
        ties: One integer a unit: the layer whose part of the same kind it uses.
        n_layer: Layers L.
        n_parts: Parts P of a layer.

    Raises:
        ValueError: If there are too few or too many, or those of a part are no tie vector.
    """
    if n_parts == 1:
        return tie_vectors.validate(ties, n_layer)
    given = np.asarray(ties)
    if given.shape != (n_parts * n_layer,):
        raise ValueError(
            f"ties={given.tolist()} has {given.size} entries, but there are {n_layer} layers of "
            f"{n_parts} parts: give {n_parts * n_layer}, those of the attention parts and then "
            "those of the MLP parts, or a pattern's name, which holds for both"
        )
    vectors = given.reshape(n_parts, n_layer)
    return np.concatenate([tie_vectors.validate(vector, n_layer) for vector in vectors])


def parse(ties: TiesLike, n_layer: int, n_parts: int = 1) -> Ties:
    """Reads a pattern's name, which then holds for each part, or the ties of all units, (P L,).

    Raises:
        ValueError: If it is neither, or impossible for so many layers and parts.

    Examples:
        >>> parse("cycle:2", 3, n_parts=2).tolist(), parse("0,0,2,0,1,1", 3, n_parts=2).tolist()
        ([0, 1, 0, 0, 1, 0], [0, 0, 2, 0, 1, 1])
    """
    if n_parts == 1:
        return tie_vectors.parse(ties, n_layer)
    if not isinstance(ties, str):
        return validate(ties, n_layer, n_parts)
    if re.fullmatch(r"\s*-?\d+(\s*,\s*-?\d+)*\s*", ties):
        return validate([int(entry) for entry in ties.split(",")], n_layer, n_parts)
    return np.tile(tie_vectors.pattern(ties, n_layer), n_parts)


def depth(n_units: int, n_layer: int | None) -> int:
    """Layers that so many recorded ties are of: n_layer if they are of two parts each, else all.

    What shows ties out of a file takes them as they come.
    """
    return n_layer if n_layer is not None and n_units == 2 * n_layer else n_units


def within_kinds(ties: Ties, kinds: Sequence[str], n_layer: int) -> Ties:
    """The ties that are meant where only units of one kind may share weights, (P L,).

    As `tiegym.ties.within_kinds`, for each part.

    Args:
        ties: Of all units, (P L,).
        kinds: Likewise.
        n_layer: Layers L.

    Examples:
        >>> within_kinds(np.array([0, 0, 0, 0]), ["a", "b", "", ""], 2).tolist()
        [0, 1, 0, 0]
    """
    each = range(0, len(ties), n_layer)
    vectors = [(ties[i : i + n_layer], kinds[i : i + n_layer]) for i in each]
    return np.concatenate([tie_vectors.within_kinds(*vector) for vector in vectors])


def layers(n_units: int, n_layer: int) -> Ties:
    """The layer of each unit, (P L,)."""
    return np.arange(n_units) % n_layer


def forest(ties: Ties, n_layer: int) -> Ties:
    """The ties with units for targets instead of layers: one tie vector of all units, (P L,).

    Examples:
        >>> forest(np.array([0, 0, 2, 0, 1, 1]), 3).tolist()
        [0, 0, 2, 3, 4, 4]
    """
    units = np.arange(len(ties))
    return ties + units - layers(len(ties), n_layer)


def roots(ties: Ties, n_layer: int) -> Ties:
    """The unit whose weights each unit uses, (P L,).

    Examples:
        >>> roots(np.array([0, 0, 1, 0, 1, 1]), 3).tolist()
        [0, 0, 0, 3, 4, 4]
    """
    return tie_vectors.roots(forest(ties, n_layer))


def n_independent(ties: Ties, n_layer: int) -> int:
    """How many units have weights of their own."""
    return tie_vectors.n_independent(forest(ties, n_layer))


def trained(ties: Ties, frozen: npt.ArrayLike, n_layer: int) -> tuple[int, int]:
    """How many attention parts and how many MLP parts train; a block is one of each.

    Args:
        ties: Of all units, (P L,).
        frozen: Which units train no more, (P L,).
        n_layer: Layers L.
    """
    own = (ties == layers(len(ties), n_layer)) & ~np.asarray(frozen, dtype=np.bool_)
    counts = own.reshape(-1, n_layer).sum(axis=1).tolist()
    return counts[0], counts[-1]


def unit_names(n_units: int, n_layer: int) -> list[str]:
    """What the units' weights are called: "3", or with two parts "3_attention" and "3_mlp".

    Examples:
        >>> unit_names(2, 2), unit_names(4, 2)
        (['0', '1'], ['0_attention', '1_attention', '0_mlp', '1_mlp'])
    """
    if n_units == n_layer:
        return [str(i) for i in range(n_layer)]
    return [f"{i}_{part}" for part in PARTS["attention+mlp"] for i in range(n_layer)]


def by_layer(units: Iterable[int], n_layer: int) -> list[int]:
    """Units in the order in which a forward pass uses them: layer by layer, part by part."""
    return sorted(units, key=lambda unit: (unit % n_layer, unit))


def sample(n_layer: int, n_parts: int, rng: np.random.Generator, size: int | None = None) -> Ties:
    """Ties drawn uniformly, part by part, (P L,); see `tiegym.ties.sample`."""
    return np.concatenate([tie_vectors.sample(n_layer, rng, size) for _ in range(n_parts)])
