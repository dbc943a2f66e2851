"""Run folders as one file: what is in it, that it is always the same, and that runs come back."""

import lzma
import tarfile

import pytest

from baselines.archive import KEPT, archive
from baselines.compare import run_policies
from baselines.policies import parse_policy
from baselines.running import missing_tasks, pairs_of
from baselines.running_options import RunningOptions
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError


def test_runs_come_back_as_they_were(tmp_path, in_process):
    policies = [parse_policy(text, TieConfig(**SMALL)) for text in ("tied", "random")]
    options = RunningOptions(runs_dir=tmp_path / "runs" / "small", quiet=True)
    rows = run_policies(policies, (0, 1), options)
    folders = [run.folder for row in rows for run in row.runs]
    packed = tmp_path / "runs.tar.xz"
    assert archive(folders, tmp_path / "runs", packed) == packed.stat().st_size
    first = packed.read_bytes()
    assert archive(folders[::-1], tmp_path / "runs", packed) == len(first)
    assert packed.read_bytes() == first
    with tarfile.open(packed) as tar:
        assert len(tar.getnames()) == len(folders) * len(KEPT)
        assert {(m.uid, m.gid, m.uname, m.mtime) for m in tar.getmembers()} == {(0, 0, "", 0)}
        tar.extractall(tmp_path / "elsewhere", filter="data")
    there = RunningOptions(runs_dir=tmp_path / "elsewhere" / "small", quiet=True)
    assert missing_tasks(pairs_of(policies, (0, 1)), there) == []
    again = run_policies(policies, (0, 1), there)
    assert [row.losses for row in again] == [row.losses for row in rows]
    assert lzma.decompress(first).count(b"events.out") == 0


def test_a_run_that_lacks_a_file_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match=r"runs\.tar\.xz can't be written: .*run/config\.json"):
        archive([tmp_path / "run"], tmp_path, tmp_path / "runs.tar.xz")
    assert not (tmp_path / "runs.tar.xz").exists()
