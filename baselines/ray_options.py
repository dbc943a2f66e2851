"""What command lines say of Ray: which cluster, and what a run takes of a node."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tiegym.runs.input_errors import InputError


def address_of(engine: str) -> str | None:
    """The address that an engine stands for: "local", "auto" or HOST:PORT; None for processes.

    Raises:
        InputError: If there is no such engine.

    Examples:
        >>> address_of("ray:10.0.0.1:6379")
        '10.0.0.1:6379'
    """
    if engine == "processes":
        return None
    if engine == "ray":
        return "local"
    address = engine.removeprefix("ray:")
    if address.startswith("ray://"):
        raise InputError(
            f"engine={engine!r} is the address of a Ray client: start this program on a node of "
            "the cluster instead, with ray:auto"
        )
    if address != engine and re.fullmatch(r"auto|(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d{1,5}", address):
        return address
    raise InputError(
        f"engine={engine!r} is unknown: there are processes, ray, ray:auto, and ray:HOST:PORT, "
        "such as ray:10.0.0.1:6379"
    )


@dataclass(frozen=True)
class Resources:
    """What a task takes of a node.

    Attributes:
        cpus: Cores.
        gpus: GPUs; below 1 several tasks share one.
    """

    cpus: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        """Checks them.

        Raises:
            InputError: If one can't be had.
        """
        if self.cpus < 1:
            raise InputError(f"cpus_per_run={self.cpus} must be at least 1 core")
        if self.gpus < 0 or self.gpus != self.gpus or (self.gpus > 1 and self.gpus % 1):
            raise InputError(f"gpus_per_run={self.gpus} must be from 0 to 1, or a whole number")

    def fit_into(self, node: dict[str, float]) -> int:
        """How many tasks a node has room for at a time.

        Args:
            node: Its resources, as Ray names them.
        """
        fitting = node.get("CPU", 0) / self.cpus
        if self.gpus:
            fitting = min(fitting, node.get("GPU", 0) / self.gpus)
        return int(fitting + 1e-9)  # ten tasks of 0.1 GPUs fit on one, though 1 // 0.1 is 9

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self.cpus} cores{gpus}"
