"""The real processes of a comparison: each has its share of the cores, and no more."""

import pytest

from baselines.compare import Options, compare
from baselines.ray_options import Resources
from tests.tiegym.analysis.made_up import ENV
from tiegym.runs.recorder import read_run


@pytest.mark.slow
def test_workers_share_the_cores(tmp_path, monkeypatch):
    # Real processes: each takes seconds to begin.
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    compare(Options(policies=("tied",), seeds=2, runs_dir=tmp_path, workers=2, quiet=True, env=ENV))
    runs = [read_run(folder) for folder in tmp_path.glob("*-seed?")]
    assert [run.config["threads"] for run in runs] == [3, 3]


@pytest.mark.parametrize(
    ("gpus", "room"), [(0.1, 10), (0.2, 5), (0.3, 3), (0.5, 2), (1, 1), (2, 0)]
)
def test_as_many_tasks_fit_on_a_gpu_as_their_shares_add_up_to(gpus, room):
    assert Resources(1, gpus).fit_into({"CPU": 16.0, "GPU": 1.0}) == room
    assert Resources(1, gpus).fit_into({"CPU": 1.0, "GPU": 8.0}) == 1
    assert Resources(1, gpus).fit_into({"CPU": 16.0}) == 0
