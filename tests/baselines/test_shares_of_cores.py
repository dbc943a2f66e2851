"""The real processes of a comparison: each has its share of the cores, and no more."""

import pytest

from baselines.compare import Options, compare
from tests.tiegym.analysis.made_up import ENV
from tiegym.runs.recorder import read_run


@pytest.mark.slow
def test_workers_share_the_cores(tmp_path, monkeypatch):
    # Real processes: each takes seconds to begin.
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    compare(Options(policies=("tied",), seeds=2, runs_dir=tmp_path, workers=2, quiet=True, env=ENV))
    runs = [read_run(folder) for folder in tmp_path.glob("*-seed?")]
    assert [run.config["threads"] for run in runs] == [3, 3]
