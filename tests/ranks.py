"""Ranks as torchrun starts them, but forked: PyTorch, which takes seconds, is imported already."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
import traceback
from pathlib import Path

import torch.distributed as dist


class Started:
    """Ranks that run a function each; what they print and return goes into a folder."""

    def __init__(self, function, folder: Path, n: int = 2) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("fork")
        self.processes = [
            context.Process(target=_run, args=(function, folder, rank, n, port))
            for rank in range(n)
        ]
        for process in self.processes:
            process.start()

    def codes(self, seconds: float = 120) -> list[int | None]:
        """The exit codes, after so long at most; a rank that goes on has None, and is killed."""
        for process in self.processes:
            process.join(seconds)
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
        return codes

    def said(self, rank: int) -> str:
        return (self.folder / f"rank-{rank}.txt").read_text()

    def results(self) -> list:
        assert set(self.codes()) == {0}, self.said(0) + self.said(1)
        return [
            pickle.loads((self.folder / f"rank-{rank}.pickle").read_bytes())
            for rank in range(len(self.processes))
        ]


def in_group(function):
    """A function of the rank, run in a process group of PyTorch's."""

    def run(rank):
        dist.init_process_group("gloo")
        try:
            return function(rank)
        finally:
            dist.destroy_process_group()

    return run


def _run(function, folder: Path, rank: int, n: int, port: int) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(n),
        "LOCAL_WORLD_SIZE": str(n),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "tests",
    }
    sys.stdout = sys.stderr = (folder / f"rank-{rank}.txt").open("w", buffering=1)
    code: int | str | None = 1
    try:
        (folder / f"rank-{rank}.pickle").write_bytes(pickle.dumps(function(rank)))
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    os._exit(code if isinstance(code, int) else 1)  # what pytest does at an exit isn't theirs
