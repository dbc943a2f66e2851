"""Private parts: what every layer keeps to itself whatever its ties. Names and counts, no PyTorch.

The weights of these parts are in `tiegym.transformer.private`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Private:
    """What is private; the default is nothing.

    Attributes:
        norms: The weights and biases of both layer norms, which are then in no shared block.
        scales: A gain of C numbers on each residual branch, attention and MLP.
        rank: R of a term B A beside each of the four matrices; 0 is none.
    """

    norms: bool = False
    scales: bool = False
    rank: int = 0

    def __str__(self) -> str:
        """The text that `parse` reads, always in the same order."""
        low_rank = f"lora:{self.rank}" if self.rank else ""
        names = ("norms" if self.norms else "", "scales" if self.scales else "", low_rank)
        return "+".join(filter(None, names)) or "none"

    def params(self, n_embd: int) -> int:
        """Parameters of one position of width C: 4 C of norms, 2 C of scales, 16 R C of rank R."""
        return (4 * self.norms + 2 * self.scales + 16 * self.rank) * n_embd


def parse(private: str) -> Private:
    """Reads "none", or "norms", "scales" and "lora:R" joined by "+" in any order.

    Raises:
        ValueError: If a name is unknown or there twice, or R isn't at least 1.

    Examples:
        >>> str(parse("lora:4+norms"))
        'norms+lora:4'
    """
    if private == "none":
        return Private()
    found: dict[str, int] = {}
    for part in private.split("+"):
        known = re.fullmatch(r"(norms|scales)|(lora):([1-9][0-9]{0,9})", part)
        if known is None:
            raise ValueError(
                f"private={private!r} has {part!r}, which is unknown: choose none, or norms, "
                "scales and lora:R with a rank R of at least 1, joined with +, such as norms+lora:4"
            )
        name = known[1] or known[2]
        if name in found:
            raise ValueError(f"private={private!r} has {name} twice: give it once")
        found[name] = int(known[3] or 0)
    return Private("norms" in found, "scales" in found, found.get("lora", 0))


def check(private: Private, n_embd: int, tie_change: str = "hard", init: str = "gpt2") -> None:
    """Checks that what is private fits the width, and is there for what needs it.

    Args:
        private: What is private.
        n_embd: Width C.
        tie_change: As in `TieConfig`.
        init: As in `TieConfig`.

    Raises:
        ValueError: If not.
    """
    if private.rank > n_embd:
        raise ValueError(
            f"private={str(private)!r} has a rank above n_embd={n_embd}, and no matrix of that "
            "width has one: lower R"
        )
    if tie_change == "soft" and not private.rank:
        raise ValueError(
            f"tie_change='soft' keeps in low-rank terms what ties take, and private="
            f"{str(private)!r} has none: add lora:R, such as lora:4"
        )
    if init == "admin" and not private.scales:
        raise ValueError(
            f"init='admin' sets the gains of each layer's branches, and private="
            f"{str(private)!r} has none: add scales"
        )
