"""Tie vectors: validation, roots, named patterns, actions and masks. NumPy only.

A tie vector ``s`` of L layers has ``s[0] = 0`` and ``0 <= s[i] <= i``. Layer i is *independent*
if ``s[i] = i``; else it uses the weights of its *root*, found by following s until ``s[r] = r``.

What changes weights when a tie vector changes is in `tiegym.transformer.tying`; nothing here knows
of weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Ties: TypeAlias = npt.NDArray[np.int64]
"""A tie vector, shape (L,)."""

TiesLike: TypeAlias = str | Sequence[int] | npt.NDArray[np.integer]
"""A pattern's name, a vector in text ("0,0,2,2"), or the vector itself."""


def validate(ties: Sequence[int] | npt.NDArray[np.integer], n_layer: int | None = None) -> Ties:
    """Returns a fresh int64 copy of a tie vector, shape (L,), once it is known to be one.

    Args:
        ties: One integer a layer, ``0 <= ties[i] <= i``.
        n_layer: The length that it must have, if any.

    Raises:
        ValueError: If it is empty, of another length, not of integers, or if an entry is out of
            range.
    """
    try:
        given = np.asarray(ties)
    except ValueError as error:
        raise ValueError(f"ties={ties!r} is not a sequence of integers") from error
    if given.ndim != 1 or given.size == 0 or given.dtype.kind not in "iu":
        raise ValueError(f"ties={ties!r} must be a non-empty sequence of integers, one a layer")
    if n_layer is not None and given.size != n_layer:
        raise ValueError(
            f"ties={given.tolist()} has {given.size} entries, but there are {n_layer} layers: "
            "give one entry a layer"
        )
    wrong = np.flatnonzero((given < 0) | (given > np.arange(given.size)))
    if wrong.size:
        i = int(wrong[0])
        raise ValueError(
            f"ties={given.tolist()} is impossible: layer {i} points at {int(given[i])}, "
            f"but may only point at 0 to {i} ({i} itself makes it independent)"
        )
    return given.astype(np.int64, copy=True)


def is_tie_vector(value: Any) -> bool:
    """Whether anything at all, out of a file say, is a list of integers 0 <= s_i <= i.

    Examples:
        >>> is_tie_vector([0, 0, 2]), is_tie_vector([1, 0]), is_tie_vector([0, "0"])
        (True, False, False)
    """
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(type(s) is int and 0 <= s <= i for i, s in enumerate(value))
    )


def roots(ties: Ties) -> Ties:
    """The layer whose weights each layer uses, shape (L,).

    Examples:
        >>> roots(np.array([0, 0, 1, 3])).tolist()
        [0, 0, 0, 3]
    """
    result = ties.copy()
    for i, target in enumerate(ties):  # s[i] <= i: the target's own root is known already
        result[i] = result[target] if target < i else i
    return result


def independent_layers(ties: Ties) -> list[int]:
    """The layers that train weights of their own, in order."""
    return [int(i) for i in np.flatnonzero(ties == np.arange(len(ties)))]


def n_independent(ties: Ties) -> int:
    """How many layers train weights of their own."""
    return int(np.count_nonzero(ties == np.arange(len(ties))))


def expected_independent(n_layer: int, freeze: bool = False) -> float:
    """Mean number of independent layers of a uniformly random tie vector, H_L = 1 + ... + 1/L.

    It is the null model of every claim that an agent *chose* to share weights. Where a layer may
    also keep its weights frozen, two of its choices leave it weights of its own:
    2/2 + 2/3 + ... + 2/(L+1).

    Examples:
        >>> round(expected_independent(48), 2), round(expected_independent(48, freeze=True), 2)
        (4.46, 6.96)
    """
    own = 1 + freeze
    return float(sum(Fraction(own, i + freeze) for i in range(1, n_layer + 1)))


def sample(n_layer: int, rng: np.random.Generator, size: int | None = None) -> Ties:
    """A tie vector drawn uniformly from all L! of them, or from those of a size.

    Args:
        n_layer: Layers L.
        rng: Gives the random numbers.
        size: Independent layers, 1 to L; None are any.

    Raises:
        ValueError: If no tie vector has this size.
    """
    if size is None:
        return rng.integers(0, np.arange(1, n_layer + 1))
    if not 1 <= size <= n_layer:
        raise ValueError(
            f"size={size} must be from 1 to n_layer={n_layer} independent layers, or None"
        )
    # ways[i][m]: how many choices of layers i to L - 1 make m of them independent.
    ways = [[0] * (n_layer + 1) for _ in range(n_layer)] + [[1] + [0] * n_layer]
    for i in reversed(range(n_layer)):
        for m in range(n_layer + 1):
            ways[i][m] = i * ways[i + 1][m] + (ways[i + 1][m - 1] if m else 0)
    result = np.zeros(n_layer, dtype=np.int64)
    left = size
    for i in range(n_layer):
        if left > 0 and rng.random() < ways[i + 1][left - 1] / ways[i][left]:
            result[i], left = i, left - 1
        else:
            result[i] = rng.integers(0, i)
    return result


# Patterns


def _sequence(n_layer: int, m: int) -> Ties:
    group = -(-n_layer // m)
    return group * (np.arange(n_layer) // group)


def _cycle(n_layer: int, m: int) -> Ties:
    return np.arange(n_layer) % m


def _cycle_rev(n_layer: int, m: int) -> Ties:
    ties = np.arange(n_layer) % m
    start = m + max(0, n_layer - 2 * m)  # the reversed block begins here
    ties[start:] = m - 1 - np.arange(n_layer - start) % m
    return ties


def _middle_cycle(n_layer: int, b: int) -> Ties:
    ties = 1 + (np.arange(n_layer) - 1) % b
    ties[0], ties[-1] = 0, n_layer - 1
    return ties


_FIXED: dict[str, Callable[[int], Ties]] = {
    "independent": lambda n: np.arange(n),
    "tied": lambda n: np.zeros(n, dtype=np.int64),
    "sandwich": lambda n: _middle_cycle(n, 1),
}
_COUNTED: dict[str, Callable[[int, int], Ties]] = {
    "sequence": _sequence,
    "cycle": _cycle,
    "cycle-rev": _cycle_rev,
    "middle-cycle": _middle_cycle,
}

PATTERNS = (*_FIXED, *(f"{name}:{'B' if name == 'middle-cycle' else 'M'}" for name in _COUNTED))
"""The names that `pattern` knows; M (or B) is a number of layers."""


def pattern(name: str, n_layer: int) -> Ties:
    """The tie vector of a named pattern, shape (n_layer,).

    | name | tie vector | source |
    | --- | --- | --- |
    | independent | s_i = i | conventional training |
    | tied | s_i = 0 | Universal Transformer; ALBERT with one group |
    | sequence:M | q = ceil(L/M); s_i = q floor(i/q) | Takase and Kiyono 2021; ALBERT, M groups |
    | cycle:M | s_i = i mod M | Takase and Kiyono 2021 |
    | cycle-rev:M | the last M layers use the first M in reverse | Takase and Kiyono 2021 |
    | sandwich | s_i = 1 between the first and the last layer | Subformer (Reid et al. 2021) |
    | middle-cycle:B | a cycle of B between the first and the last | Mixture-of-Recursions |

    Where L is no multiple of the group's size, ``sequence:M`` can have fewer than M groups:
    it is ceil(L/q) of them.

    Raises:
        ValueError: If the name is unknown, or if M doesn't fit into the layers.

    Examples:
        >>> pattern("cycle-rev:3", 9).tolist()
        [0, 1, 2, 0, 1, 2, 2, 1, 0]
    """
    if name in _FIXED:
        return _FIXED[name](n_layer)
    head, _, count = name.partition(":")
    if head not in _COUNTED:
        raise ValueError(
            f"unknown tying pattern {name!r}: choose one of {', '.join(PATTERNS)}, "
            'or give a tie vector such as "0,0,2,2"'
        )
    most = n_layer - 2 if head == "middle-cycle" else n_layer
    if not re.fullmatch(r"[0-9]+", count) or not 1 <= int(count) <= most:
        raise ValueError(
            f"tying pattern {name!r} needs a number of layers from 1 to {most} after the colon, "
            f"as in {head}:{min(2, max(most, 1))} (the transformer has {n_layer} layers)"
        )
    return _COUNTED[head](n_layer, int(count))


def parse(ties: TiesLike, n_layer: int) -> Ties:
    """Reads a pattern's name, a vector in text, or a vector; returns the vector, (n_layer,).

    Raises:
        ValueError: If it is none of these, or impossible for `n_layer` layers.

    Examples:
        >>> parse("0,0,2,2", 4).tolist()
        [0, 0, 2, 2]
    """
    if not isinstance(ties, str):
        return validate(ties, n_layer)
    if re.fullmatch(r"\s*-?\d+(\s*,\s*-?\d+)*\s*", ties):
        return validate([int(entry) for entry in ties.split(",")], n_layer)
    return pattern(ties, n_layer)


# Actions


def mask(layer: int, n_layer: int) -> npt.NDArray[np.bool_]:
    """The choices 0..layer that differ from each other for one layer, bool of shape (n_layer,)."""
    return np.arange(n_layer) <= layer


def set_tie(ties: Ties, layer: int, target: int) -> Ties:
    """A copy in which `layer` points at `target`; any target >= layer makes it independent."""
    result = ties.copy()
    result[layer] = min(target, layer)
    return result


def within_kinds(ties: Ties, kinds: Sequence[str]) -> Ties:
    """The ties that are meant where only layers of one kind may share weights, (L,).

    A layer tied to one of another kind is tied instead to that layer of its own kind, of those
    before it, that is nearest to the one named, the earlier of two as near; if there is none, it
    is independent.

    Args:
        ties: A tie vector, (L,).
        kinds: Of each layer, such as "full_attention".

    Examples:
        >>> within_kinds(np.array([0, 0, 0, 0, 1]), ["a", "b", "a", "b", "a"]).tolist()
        [0, 1, 0, 1, 0]
    """
    result = ties.copy()
    for i, target in enumerate(ties.tolist()):
        if target < i and kinds[target] != kinds[i]:
            own = [k for k in range(i) if kinds[k] == kinds[i]]
            result[i] = min(own, key=lambda k: (abs(k - target), k)) if own else i
    return result


def pair_index(layer: int, target: int) -> int:
    """The triangular index of (layer, target <= layer): layer (layer + 1) / 2 + target."""
    return layer * (layer + 1) // 2 + target


def pair_from_index(index: int) -> tuple[int, int]:
    """The (layer, target) of a triangular index.

    Examples:
        >>> [pair_from_index(k) for k in range(4)]
        [(0, 0), (1, 0), (1, 1), (2, 0)]
    """
    layer = 0
    while (layer + 1) * (layer + 2) // 2 <= index:
        layer += 1
    return layer, index - layer * (layer + 1) // 2
