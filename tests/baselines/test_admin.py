"""Admin's start as a policy of a comparison."""

import dataclasses

import pytest

from baselines import admin
from baselines.policies import parse_policy
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


@pytest.mark.parametrize(("private", "used"), [("none", "scales"), ("norms", "norms+scales")])
def test_a_run_has_its_start_and_its_gains_under_its_pattern(tmp_path, private, used):
    env = dataclasses.replace(ENV, private=private, max_iters=4)
    options = admin.Options(pattern="cycle:2", runs_dir=tmp_path, quiet=True, env=env)
    run = read_run(admin.train(options))
    assert (run.config["env"]["init"], run.config["env"]["private"]) == ("admin", used)
    assert run.config["program"] == "admin-cycle:2"
    assert all(row["ties"] == [0, 1, 0, 1] for row in run.steps)


def test_it_is_an_arm_of_a_comparison():
    policy = parse_policy("admin --pattern sequence:2", ENV)
    assert (policy.module, policy.options.pattern) == ("baselines.admin", "sequence:2")
    assert parse_policy("admin", ENV).options.pattern == "tied"


def test_it_goes_with_drawn_weights_alone(tmp_path):
    env = dataclasses.replace(ENV, initial_weights="runs/x")
    with pytest.raises(ValueError, match="init='admin'"):
        admin.train(admin.Options(runs_dir=tmp_path, quiet=True, env=env))
    assert not list(tmp_path.iterdir())
