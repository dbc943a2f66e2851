from benchmarks import tiebench
from tests.tiegym.bench.conftest import options
from tiegym.bench.make import make


def test_recorded_steps_are_measured_beside_trained_ones(tmp_path, capsys):
    path = make(options(tmp_path, "tree-2x2-tiny-owner", seeds=1))
    tiebench.run(tiebench.Options(str(path), num_envs=4, seconds=0.01, repeats=2))
    out = capsys.readouterr().out
    assert "| TieBench-v0 |" in out
    assert "| 4 at once |" in out
