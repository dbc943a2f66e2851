"""Schedules as a program and as policies of a comparison."""

import dataclasses

import pytest

from baselines.policies import parse_policy
from baselines.schedules import Options, main, train
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


def test_a_run_follows_its_schedule_whatever_actions_the_environment_was_given(tmp_path):
    env = dataclasses.replace(ENV, action="pair", initial_ties="independent", max_iters=20)
    options = Options(runs_dir=tmp_path, quiet=True, env=env, at=0.35, total_steps=20)
    run = read_run(train(options))
    # 0.35 of 20 iterations is 7, so the step of iterations 8 and 9 is the first one untied.
    assert [row["ties"] for row in run.steps] == ([[0, 0, 0, 0]] * 4 + [[0, 1, 2, 3]] * 6) * 2
    assert (run.config["env"]["action"], run.config["env"]["initial_ties"]) == ("joint", "tied")
    assert run.config["program"] == "share-then-unshare"
    assert "protocol" not in run.config  # it learns nothing


def test_a_progressive_run_makes_several_splits_at_once_where_steps_are_long(tmp_path):
    env = dataclasses.replace(ENV, iters_per_step=3)
    options = Options(runs_dir=tmp_path, quiet=True, env=env, schedule="progressive-split", by=0.5)
    run = read_run(train(options))  # splits at iterations 2, 4 and 6 of 12
    assert [(row["iteration"], row["ties"]) for row in run.steps] == [
        (3, [0, 0, 0, 0]),
        (6, [0, 0, 2, 2]),
        (9, [0, 1, 2, 3]),
        (12, [0, 1, 2, 3]),
    ]
    assert run.summary["final"]["n_independent"] == 4


def test_untying_at_once_still_begins_with_equal_layers(tmp_path):
    options = Options(runs_dir=tmp_path, quiet=True, env=ENV, at=0.0)
    assert read_run(train(options)).steps[0]["ties"] == [0, 1, 2, 3]


def test_schedules_are_arms_of_a_comparison():
    policy = parse_policy("schedules --schedule progressive-split --until 3", ENV)
    assert policy.module == "baselines.schedules"
    assert (policy.options.schedule, policy.options.until) == ("progressive-split", 3)


def test_the_command_line_explains_itself_and_refuses_nonsense(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "progressive-split" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["--at", "1.5"])
    assert "at=1.5 must be a share, from 0 to 1" in capsys.readouterr().err
    with pytest.raises(ValueError, match="until=7 must be a number of layers, from 1 to 6"):
        Options(schedule="progressive-split", until=7)
    with pytest.raises(ValueError, match="has no effect with schedule='share-then-unshare'"):
        Options(until=3)
    with pytest.raises(ValueError, match=r"by=0.25 has no effect with schedule='share-"):
        Options(by=0.25)
    with pytest.raises(ValueError, match=r"at=0.25 has no effect with schedule='prog"):
        Options(schedule="progressive-split", at=0.25)
    with pytest.raises(ValueError, match=r"has taylor.*action='joint'"):  # which the program sets
        Options(env=dataclasses.replace(ENV, features="taylor"))
