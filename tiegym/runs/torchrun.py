"""Programs that are started as several ranks: `torchrun --nproc-per-node 2 -m agents.dqn`.

Rank 0 runs the program: its agent, its environment, its run folder. The others train with it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
import torch.distributed as dist

from tiegym.runs.following import follow
from tiegym.runs.input_errors import as_input_errors
from tiegym.runs.ranks import n_ranks
from tiegym.training import collectives, parallel

_EVER = timedelta(days=30)
"""How long a rank waits for another that thinks. One that dies is noticed at once."""


@contextmanager
def process_group(args: Sequence[str]) -> Iterator[bool]:
    """Whether the block is for this process to do; other ranks train with it meanwhile.

    Args:
        args: The command line.

    Raises:
        InputError: If the ranks have different command lines.
        tiegym.training.collectives.RankLost: On other ranks, if rank 0 has died.
    """
    if n_ranks() == 1:
        yield True
        return
    gpus = torch.cuda.device_count()
    if (local := int(os.environ["LOCAL_RANK"])) < gpus:
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=_EVER)
    try:
        with as_input_errors(ValueError):
            parallel.check_agreement({"command line": list(args)})
        if dist.get_rank() == 0:
            leader = parallel.Leader()
            with parallel.led_by(leader):
                try:
                    yield True
                finally:
                    with suppress(collectives.RankLost):  # which was said where it was noticed
                        leader.end()
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # they are for rank 0, and so is the answer
        with parallel.led_by(None):
            follow()
        yield False
    finally:
        dist.destroy_process_group()
