"""Progressive freezing as a program and as policies of a comparison."""

import dataclasses

import numpy as np
import pytest

from baselines import progressive_freeze
from baselines.policies import parse_policy
from baselines.progressive_freeze import Options, main, train
from tests.baselines.cut_off import check_that_it_goes_on
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


def test_freezeout_freezes_each_layer_at_its_time_whatever_else_was_asked_for(tmp_path):
    env = dataclasses.replace(ENV, action="pair", initial_ties="tied", max_iters=16)
    options = Options(runs_dir=tmp_path, quiet=True, env=env, start=0.5, shape="linear")
    run = read_run(train(options))  # layers stop at 8, 10, 12 and 14 of 16 iterations
    assert [sum(row["frozen"]) for row in run.steps] == [0, 0, 0, 0, 1, 2, 3, 4]
    assert all(row["frozen"] == sorted(row["frozen"], reverse=True) for row in run.steps)
    assert all(row["ties"] == [0, 1, 2, 3] for row in run.steps)
    trained = [row["trainable_params"] for row in run.steps]
    block = (trained[0] - trained[-1]) / 4
    assert trained == [trained[0] - block * sum(row["frozen"]) for row in run.steps]
    assert run.config["program"] == "progressive-freeze-freezeout"
    assert run.config["env"]["choices"] == "tie+freeze"
    assert "protocol" not in run.config  # it learns nothing


def test_until_its_first_layer_stops_a_run_is_that_of_an_untied_transformer(tmp_path):
    options = Options(runs_dir=tmp_path, quiet=True, env=ENV, start=1.0)
    never = read_run(train(options))
    fixed = parse_policy("independent", ENV)
    plain = read_run(fixed.train(dataclasses.replace(fixed.options, runs_dir=tmp_path, quiet=True)))
    assert [r["val_loss"] for r in never.steps] == [r["val_loss"] for r in plain.steps]


@pytest.mark.parametrize("tie_parts", ["block", "attention+mlp"])
def test_autofreeze_freezes_from_the_bottom_up_but_not_the_last_layer(tmp_path, tie_parts):
    env = dataclasses.replace(ENV, tie_parts=tie_parts, max_iters=24)
    options = Options(
        runs_dir=tmp_path, quiet=True, env=env, rule="autofreeze", tests=12, total_steps=24
    )
    run = read_run(train(options))
    parts = env.n_parts
    for episode in (0, 1):
        rows = [row for row in run.steps if row["episode"] == episode]
        layers = np.array([row["frozen"][:4] for row in rows])
        assert all(row["frozen"] == row["frozen"][:4] * parts for row in rows)
        assert not layers[:2].any()  # the first test is before the second step, and only remembers
        assert layers[-1, 0]
        assert not layers[:, -1].any()
        assert (np.diff(layers.astype(int), axis=0) >= 0).all()  # what is frozen stays so
        assert (np.diff(layers.astype(int), axis=1) <= 0).all()  # and is below what isn't


def test_autofreeze_goes_on_to_the_same_bits_after_it_was_cut_off(tmp_path, monkeypatch):
    options = Options(
        runs_dir=tmp_path, quiet=True, env=ENV, rule="autofreeze", checkpoint_every_steps=1
    )
    check_that_it_goes_on(train, options, monkeypatch, progressive_freeze, 4)


def test_both_rules_are_arms_of_a_comparison():
    policy = parse_policy("progressive-freeze --rule autofreeze --percentile 70", ENV)
    assert policy.module == "baselines.progressive_freeze"
    assert (policy.options.rule, policy.options.percentile) == ("autofreeze", 70)
    assert parse_policy("progressive_freeze --shape linear", ENV).options.shape == "linear"


def test_what_is_given_must_go_with_what_the_program_sets():
    with pytest.raises(ValueError, match=r"features='taylor' has taylor.*action='joint'"):
        Options(env=dataclasses.replace(ENV, features="taylor"))


def test_the_command_line_explains_itself(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "autofreeze" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start": 1.5}, r"start=1.5 must be a share, from 0 to 1"),
        ({"percentile": 101.0}, r"percentile=101.0 must be from 0 to 100"),
        ({"rule": "autofreeze", "tests": 2}, r"tests=2 must be at least 3 intervals"),
        (
            {"tests": 30},
            r"tests=30 has no effect .* it belongs to \"autofreeze",
        ),
        ({"rule": "autofreeze", "shape": "linear"}, r"shape='linear' has no effect"),
    ],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Options(**wrong)
