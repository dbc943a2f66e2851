"""Kept runs that learnt from tables: they are taken only while the tables are the same."""

import pytest

from baselines.compare import Options, compare
from tests.agents.made_tables import made_patterns, planted
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError
from tiegym.runs.json_files import read_json, write_json
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


def test_in_a_comparison_it_is_a_policy_and_a_table_that_changed_is_noticed(tmp_path, in_process):
    path = tmp_path / "patterns-4-made-sum.npz"
    made_patterns(path, planted)
    policies = (f"surrogate --size 2 --learn-from {path}",)
    given = Options(policies=policies, seeds=1, runs_dir=tmp_path / "runs", env=ENV, quiet=True)
    compare(given)
    (folder,) = (tmp_path / "runs").glob("surrogate*-seed0")
    assert read_run(folder).config["env"]["initial_ties"] == [0, 1, 1, 1]
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"tables_sha256": ["0" * 64]})
    with pytest.raises(InputError, match="one of their tables was another: surrogate"):
        compare(given)
