"""How the weights that layers share are kept small, by name; no PyTorch.

What the two ways compute is in `tiegym.transformer.quantize` and
`tiegym.transformer.tensor_train`.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass

BITS = {"int8": 8, "int4": 4}
"""Bits of a number by the names of `TieConfig.quantize`."""

SIDE = 3
"""Factors of each side of a matrix, and so half of its cores."""


@dataclass(frozen=True)
class Compression:
    """What is done to the matrices of a block; the default is nothing.

    Attributes:
        bits: Of each number of a matrix, or of its cores: 8 or 4; 0 leaves numbers as they are.
        rank: R of the tensor train that stands for each matrix; 0 is none.
    """

    bits: int = 0
    rank: int = 0

    def __bool__(self) -> bool:
        """Whether anything is done."""
        return bool(self.bits or self.rank)


NO_COMPRESSION = Compression()


def parse(quantize: str | None, factorize: str | None) -> Compression:
    """Reads None, "int8" or "int4", and None or "tt:R".

    Raises:
        ValueError: If one is unknown, or R isn't at least 1.

    Examples:
        >>> parse("int4", "tt:8")
        Compression(bits=4, rank=8)
    """
    if quantize not in (None, *BITS):
        raise ValueError(f"quantize={quantize!r} is unknown: choose None, {', '.join(BITS)}")
    known = re.fullmatch(r"tt:([1-9][0-9]{0,9})", factorize or "")
    if factorize is not None and known is None:
        raise ValueError(
            f"factorize={factorize!r} is unknown: choose None, or tt:R, tensor trains of a rank R "
            "of at least 1, such as tt:8"
        )
    return Compression(BITS[quantize] if quantize else 0, int(known[1]) if known else 0)


def check(
    compression: Compression, n_embd: int, tie_change: str = "hard", dtype: str = "float32"
) -> None:
    """Checks that a compression fits the width, and goes with what else is asked for.

    Args:
        compression: What is done.
        n_embd: Width C.
        tie_change: As in `TieConfig`.
        dtype: As in `TieConfig`.

    Raises:
        ValueError: If not.
    """
    rank = compression.rank
    if rank and 1 in factors(n_embd):
        raise ValueError(
            f"factorize='tt:{rank}' splits n_embd={n_embd} into {SIDE} factors of at least 2, and "
            "it has fewer: choose another width, such as a multiple of 8"
        )
    if rank > (most := largest_rank(n_embd)):
        raise ValueError(
            f"factorize='tt:{rank}' has a rank above {most}, with which all matrices of "
            f"n_embd={n_embd} can be had: lower R"
        )
    if compression and tie_change == "soft":
        raise ValueError(
            "tie_change='soft' adds low-rank terms to the weights of layers that become "
            "independent, and quantize and factorize have no exact place for the sum: choose "
            "tie_change='hard', or leave both None"
        )
    if compression.bits and dtype == "bfloat16":
        raise ValueError(
            "quantize needs weights in float32, from which numbers are rounded in each iteration: "
            "choose dtype='float32' or 'bfloat16-mixed', and not 'bfloat16'"
        )


@functools.cache
def factors(n: int) -> tuple[int, ...]:
    """Three factors of a number, the largest first, of the least sum: as equal as can be.

    Examples:
        >>> factors(128), factors(384), factors(10)
        ((8, 4, 4), (8, 8, 6), (5, 2, 1))
    """
    return min(
        (
            (n // (a * b), b, a)
            for a in _divisors(n, round(n ** (1 / 3)) + 1)
            for b in _divisors(n // a, math.isqrt(n // a))
            if a <= b
        ),
        key=sum,
    )


def _divisors(n: int, most: int) -> list[int]:
    return [d for d in range(1, most + 1) if n % d == 0]


def largest_rank(n_embd: int) -> int:
    """The rank at which tensor trains are every matrix of a block of width C: C, or little more.

    Examples:
        >>> largest_rank(128), largest_rank(8)
        (128, 16)
    """
    sides = [(3 * n_embd, n_embd), (n_embd, n_embd), (4 * n_embd, n_embd), (n_embd, 4 * n_embd)]
    trains = [core_sizes(out, into, 12 * n_embd**2) for out, into in sides]
    return max(size[2] for train in trains for size in train)


def core_sizes(out: int, into: int, rank: int) -> list[tuple[int, int, int]]:
    """The sizes (r, n, r') of the six cores of a tensor train for a matrix (out, in).

    The factors of out, the largest first, then those of in, the largest last. Between two cores
    the rank is R, or what it can be at most: the product of the factors on either side.

    Examples:
        >>> core_sizes(16, 8, rank=3)
        [(1, 4, 3), (3, 2, 3), (3, 2, 3), (3, 2, 3), (3, 2, 2), (2, 2, 1)]
    """
    modes = factors(out) + factors(into)[::-1]
    ranks = [
        min(rank, math.prod(modes[:k]), math.prod(modes[k:])) if 0 < k < len(modes) else 1
        for k in range(len(modes) + 1)
    ]
    return [(ranks[k], n, ranks[k + 1]) for k, n in enumerate(modes)]
