"""Which colour and marker a policy has: its own while there are few, that of its kind else.

A kind is what a reader looks for in a picture of thirty policies: what learns, what chance does,
what people choose by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tiegym.pictures.colors import PALETTE

LEARNED_BEFORE = "agent that learned on other runs"
LEARNING = "agent that learns in the run"
PATTERN = "fixed pattern"
RANDOM = "random"
SEARCH = "search"
UNTIED = "untied"
SCHEDULE = "schedule"
OTHER = "another program"

KINDS = (LEARNED_BEFORE, LEARNING, PATTERN, RANDOM, SEARCH, UNTIED, SCHEDULE, OTHER)
"""In the order of their colours in `tiegym.pictures.colors.PALETTE`."""

_BY_PROGRAM = {
    "fixed": PATTERN,
    "retrain": PATTERN,
    "admin": PATTERN,
    "random": RANDOM,
    "lookahead": SEARCH,
    "evolution": SEARCH,
    "shallow": UNTIED,
    "share-then-unshare": SCHEDULE,
    "progressive-": SCHEDULE,
    "gradient_split": SCHEDULE,
    **dict.fromkeys(("ladder", "norms-only", "elastic-depth"), OTHER),  # of a trained model
}
"""By how the name of a program begins."""

_BY_PROTOCOL = {
    "pretrained": LEARNED_BEFORE,
    "tabulated": LEARNED_BEFORE,
    "online": LEARNING,
}


def kind(config: Mapping[str, Any]) -> str:
    """The kind of policy that made a run, one of `KINDS`.

    Args:
        config: Of the run: its program, its protocol, and the options that make a pattern.

    Examples:
        >>> kind({"program": "fixed", "options": {"pattern": "cycle:2"}})
        'fixed pattern'
        >>> kind({"program": "dqn", "protocol": "online"})
        'agent that learns in the run'
    """
    program = str(config.get("program", ""))
    options = config.get("options")
    pattern = options.get("pattern") if isinstance(options, Mapping) else None
    if str(pattern).startswith(("independent", "shallow")):
        return UNTIED
    for beginning, found in _BY_PROGRAM.items():
        if program.startswith(beginning):
            return found
    return _BY_PROTOCOL.get(str(config.get("protocol")), OTHER)


@dataclass(frozen=True)
class Look:
    """How a policy is drawn.

    Attributes:
        place: Of its colour in `tiegym.pictures.colors.PALETTE`.
        number: Among those of its colour, which a marker can show.
        kind: Of which the colour is; None where it is the policy's own.
    """

    place: int
    number: int
    kind: str | None

    @property
    def color(self) -> str:
        """On a light ground."""
        return PALETTE[self.place]


def looks(configs: Sequence[Mapping[str, Any]]) -> list[Look]:
    """The looks of policies, from the configuration of a run of each.

    Up to eight have a colour each. More of them have that of their kind, and within a kind
    differ by number.
    """
    if len(configs) <= len(PALETTE):
        return [Look(k, k, None) for k in range(len(configs))]
    kinds = [kind(config) for config in configs]
    return [Look(KINDS.index(k), kinds[:number].count(k), k) for number, k in enumerate(kinds)]
