"""Splitting by gradients as a program and as a policy of a comparison."""

import dataclasses

import numpy as np
import pytest

import tiegym
from baselines.gradient_split import Options, main, train
from baselines.policies import parse_policy
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.policies.gradient_split import split
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


def test_a_run_splits_where_the_gradients_of_its_own_run_disagree(tmp_path):
    env = dataclasses.replace(ENV, action="pair", initial_ties="independent", features="moved")
    options = Options(runs_dir=tmp_path, quiet=True, env=env, every=2, until=3, total_steps=8)
    run = read_run(train(options))
    used = {name: run.config["env"][name] for name in ("action", "tie_grad", "initial_ties")}
    assert used == {"action": "joint", "tie_grad": "sum", "initial_ties": "tied"}
    assert run.config["env"]["features"] == "agreement"
    assert run.config["program"] == "gradient_split"
    assert "protocol" not in run.config  # it learns nothing
    again = tiegym.TieEnv(**run.config["env"])
    observation, _ = again.reset(seed=options.seed)
    ties, counts = np.zeros(4, dtype=np.int64), []
    for step, row in enumerate(run.steps[:6]):
        if step in (2, 4):
            ties = split(ties, observation["layer_stats"], 4)
        assert row["ties"] == ties.tolist()
        observation, *_ = again.step(ties[1:])
        counts.append(row["n_independent"])
    assert counts == [1, 1, 2, 2, 3, 3]
    assert [row["n_independent"] for row in run.steps[6:]] == [1, 1]  # the next episode


def test_it_starts_from_a_pattern_and_splits_parts_too(tmp_path):
    env = dataclasses.replace(ENV, tie_parts="attention+mlp")
    options = Options(runs_dir=tmp_path, quiet=True, env=env, every=1, pattern="sequence:2")
    run = read_run(train(options))
    assert run.steps[0]["ties"] == [0, 0, 2, 2] * 2
    assert [row["n_independent"] for row in run.steps] == [4, 5, 6, 7, 8, 8]


def test_it_is_an_arm_of_a_comparison():
    policy = parse_policy("gradient-split --every 3 --pattern sequence:2", ENV)
    assert policy.module == "baselines.gradient_split"
    assert (policy.options.every, policy.options.pattern) == (3, "sequence:2")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"every": 0}, "every=0 must be at least 1 environment step"),
        ({"until": 5}, "until=5 must be a number of independent layers from 1, which"),
        ({"until": 1, "pattern": "sequence:2"}, "from 2, which pattern='sequence:2' begins with"),
        ({"pattern": "spiral"}, "spiral"),
        (
            {"env": dataclasses.replace(ENV, n_layer=1)},
            "n_layer=1 must be at least 2 with action='j",
        ),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Options(**{"env": ENV} | wrong)


def test_the_command_line_explains_itself_and_refuses_nonsense(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--every" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["--every", "0"])
    assert "every=0 must be at least 1" in capsys.readouterr().err
