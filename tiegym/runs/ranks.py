"""How many ranks of a program torchrun has started; no PyTorch."""

from __future__ import annotations

import os

from tiegym.runs.input_errors import InputError


def n_ranks() -> int:
    """Ranks on all machines together, this one included; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def launcher() -> str:
    """What has started this process, as a command line has it in the place of `python`.

    Examples:
        >>> launcher()
        ''
    """
    if n_ranks() == 1:
        return ""
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = "" if here == n_ranks() else f"--nnodes {n_ranks() // here} "
    return f"torchrun {nodes}--nproc-per-node {here}"


def refuse_ranks(reason: str = "it starts other processes itself") -> None:
    """For programs that are one process.

    Args:
        reason: Why.

    Raises:
        InputError: If torchrun has started several ranks.
    """
    if n_ranks() > 1:
        raise InputError(
            f"torchrun has started {n_ranks()} ranks of this program, but it is one process, since "
            f"{reason}: run it with python. Programs that train a whole transformer, such as "
            "agents.dqn and baselines.fixed, can have ranks"
        )
