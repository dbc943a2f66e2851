"""One shared layer at depths that are drawn: the draws, the record, what is refused."""

import dataclasses

import numpy as np
import pytest

from baselines import layer_consistency
from baselines.layer_consistency import Options, drawn_depths, main, train
from baselines.policies import parse_policy
from tests.baselines.cut_off import check_that_it_goes_on
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


def test_depths_are_drawn_uniformly_and_by_the_seed_alone():
    depths = drawn_depths(2, 6, 10_000, seed=1)
    counts = np.bincount(depths, minlength=7)
    assert not counts[:2].any()
    assert counts[2:] == pytest.approx(2000, rel=0.1)
    assert drawn_depths(2, 6, 100, seed=1) == depths[:100] != drawn_depths(2, 6, 100, seed=2)


def test_a_run_is_tied_throughout_and_its_summary_has_the_losses_at_each_depth(tmp_path):
    env = dataclasses.replace(ENV, initial_ties="independent")
    options = Options(runs_dir=tmp_path, quiet=True, env=env, seed=1, deepest=6)
    run = read_run(train(options))
    assert all(row["ties"] == [0, 0, 0, 0] for row in run.steps)
    assert run.config["program"] == "layer-consistency"
    losses = run.summary["losses_by_depth"]
    assert [len(losses[split]) for split in ("validation", "test")] == [6, 6]
    final = run.summary["final"]
    assert losses["validation"][3] == final["val_loss"]  # the run's own figures are of all layers
    assert np.exp(losses["test"][3]) == pytest.approx(final["test_perplexity"])
    assert len(set(losses["test"])) == 6
    assert run.summary["mean_depth"] == np.mean(drawn_depths(1, 4, 12, seed=1))


def test_with_the_least_depth_at_all_layers_it_is_the_tied_transformer(tmp_path):
    options = Options(runs_dir=tmp_path, quiet=True, env=ENV, least=4)
    tied = parse_policy("tied", ENV)
    plain = read_run(tied.train(dataclasses.replace(tied.options, runs_dir=tmp_path, quiet=True)))
    run = read_run(train(options))
    assert [r["val_loss"] for r in run.steps] == [r["val_loss"] for r in plain.steps]
    other = read_run(train(dataclasses.replace(options, least=1)))
    assert [r["val_loss"] for r in other.steps] != [r["val_loss"] for r in plain.steps]


def test_training_at_all_depths_helps_the_shallow_ones(tmp_path):
    env = dataclasses.replace(
        ENV, max_iters=300, iters_per_step=100, tie_grad="sum", learning_rate=1e-2
    )
    drawn, always = (
        read_run(train(Options(runs_dir=tmp_path, quiet=True, env=env, least=least))).summary
        for least in (1, 4)
    )
    drawn, always = (s["losses_by_depth"]["validation"] for s in (drawn, always))
    assert drawn[0] < always[0] - 0.1  # nats; 0.27 to 0.46 with three seeds


@pytest.mark.parametrize("steps", [4, 6])
def test_it_goes_on_to_the_same_bits_after_it_was_cut_off(tmp_path, monkeypatch, steps):
    options = Options(runs_dir=tmp_path, quiet=True, env=ENV, checkpoint_every_steps=1)
    check_that_it_goes_on(train, options, monkeypatch, layer_consistency, steps)


def test_it_is_an_arm_of_a_comparison():
    policy = parse_policy("layer-consistency --least 2", ENV)
    assert policy.module == "baselines.layer_consistency"
    assert policy.options.least == 2


def test_the_command_line_explains_itself(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "The least number of applications" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"least": 0}, r"least=0 must be a number of layers, from 1 to 6"),
        ({"least": 7}, r"least=7 must be a number of layers, from 1 to 6"),
        ({"deepest": 0}, r"deepest=0 must be at least 1, or None"),
        ({"env": TieConfig(private="norms")}, r"env.private='norms' must be \"none\""),
    ],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Options(**wrong)
