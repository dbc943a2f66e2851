from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tiegym.bench.arithmetic import arithmetic
from tiegym.config import TieConfig
from tiegym.training.one_thread import one_thread

SMALL = TieConfig(n_embd=32, n_head=2, block_size=16, batch_size=4)


def test_it_is_the_same_again_and_leaves_the_global_stream_alone():
    before = torch.get_rng_state()
    with one_thread():
        assert arithmetic(SMALL) == arithmetic(SMALL)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT", reason="has one set of instructions"
)
def test_other_instructions_round_otherwise():
    program = (
        "import torch; torch.set_num_threads(1)\n"
        "from tiegym.bench.arithmetic import arithmetic\n"
        "from tiegym.config import TieConfig\n"
        "print(arithmetic(TieConfig(n_embd=32, n_head=2, block_size=16, batch_size=4)))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "ATEN_CPU_CAPABILITY": capability},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for capability in ("default", torch.backends.cpu.get_cpu_capability().lower())
    ]
    assert found[0] != found[1]
    with one_thread():
        assert found[1] == arithmetic(SMALL)
