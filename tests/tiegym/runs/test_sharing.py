"""Several processes with one cache folder and one runs folder."""

import os
import subprocess
import sys

import pytest

from tests.tiegym.small import SMALL
from tiegym.data import token_cache
from tiegym.runs.recorder import is_finished, read_run

PROGRAM = """
import sys
from pathlib import Path
from baselines import fixed
from tiegym.config import TieConfig
from tests.tiegym.small import SMALL
env = TieConfig(**SMALL | {"tokenizer": "bpe-300"})
sys.stdin.read()  # all begin together
options = fixed.Options(runs_dir=Path(sys.argv[1]), name="same", quiet=True, env=env)
for _ in range(2):
    print(fixed.train(options))
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, pytest.param(8, marks=pytest.mark.exhaustive)])
def test_processes_share_a_cold_cache_and_a_runs_folder(count, tmp_path):
    # Real processes: each takes seconds to begin.
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "runs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(count)
    ]
    for process in processes:
        process.stdin.close()
        process.stdin = None  # communicate would close it again
    printed = [process.communicate(timeout=300)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * count
    folders = sorted(folder for lines in printed for folder in lines)
    assert len(set(folders)) == 2 * count
    runs = [read_run(folder) for folder in folders]
    assert all(is_finished(run.folder) for run in runs)
    losses = {tuple(row["val_loss"] for row in run.steps) for run in runs}
    assert len(losses) == 1
    assert len(runs[0].steps) == SMALL["max_iters"] / SMALL["iters_per_step"]
    (cached,) = (tmp_path / "cache" / "tiegym").iterdir()  # and nothing half-written beside it
    assert token_cache.read(cached) is not None
