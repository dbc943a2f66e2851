"""Elastic depth as a program: the curve, what is recorded, what is refused."""

import csv
import dataclasses
import math

import pytest

from baselines import elastic_depth, fixed, frozen_model
from baselines.elastic_depth import THRESHOLDS, Options, train
from baselines.policies import parse_policy
from tests.baselines.cut_off import check_that_it_goes_on
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL | {"learning_rate": 1e-2})
C, L = 16, 4


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run with its model."""
    folder = tmp_path_factory.mktemp("sources")
    options = fixed.Options(pattern="cycle:2", runs_dir=folder, quiet=True, export=True, env=ENV)
    return fixed.train(options)


def options_of(source, folder, **changes):
    return Options(**{"runs_dir": folder, "quiet": True, "env": ENV, "run": source} | changes)


def test_a_run_ends_with_the_curve_from_the_model_itself_to_less_depth(source, tmp_path):
    env = dataclasses.replace(ENV, dropout=0.2, eval_batches=4)
    run = read_run(train(options_of(source, tmp_path, env=env, threshold=0.45)))
    assert (run.config["program"], run.config["env"]["dropout"]) == ("elastic-depth", 0.0)
    final = run.summary["final"]
    assert final["trainable_params"] == L * (C + 2)
    assert run.summary["part_bytes"] == 4 * L * (C + 2)
    curves = {}
    for row in run.summary["depth_curve"]:
        curves.setdefault(row["curve"], []).append(row)
    routers, random = curves["routers"], curves["tokens at random"]
    thresholds = sorted([*THRESHOLDS, 0.45])
    assert [row["threshold"] for row in routers] == thresholds
    assert [row["threshold"] for row in random] == thresholds
    teacher = read_run(source).summary["final"]["test_perplexity"]
    for row in (routers[0], random[0], curves["first layers"][-1]):  # all tokens, all layers
        assert row["test_depth"] == L
        assert math.exp(row["test_loss"]) == pytest.approx(teacher, rel=1e-6)
    for row, threshold in zip(random, thresholds, strict=True):
        assert row["test_depth"] == pytest.approx(L * (1 - threshold), abs=0.6)
    depths = [row["test_depth"] for row in routers]
    assert depths == sorted(depths, reverse=True)
    mine = next(row for row in routers if row["threshold"] == 0.45)
    assert mine["validation_loss"] == final["val_loss"]
    assert math.exp(mine["test_loss"]) == pytest.approx(final["test_perplexity"])
    assert [row["test_depth"] for row in curves["first layers"]] == [1, 2, 3, 4]
    with (run.folder / "depth.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(thresholds) + L
    assert float(rows[0]["test_loss"]) == routers[0]["test_loss"]
    assert (run.folder / "depth.png").read_bytes().startswith(b"\x89PNG")


def test_it_goes_on_to_the_same_bits_after_it_was_cut_off(source, tmp_path, monkeypatch):
    monkeypatch.setattr(elastic_depth, "THRESHOLDS", (0.0, 0.5))
    options = options_of(source, tmp_path, checkpoint_every_steps=1)
    after_the_curve = options.steps  # and before the end of the run
    check_that_it_goes_on(train, options, monkeypatch, frozen_model, after_the_curve)


def test_it_is_an_arm_of_a_comparison(source):
    policy = parse_policy(f"elastic-depth --run {source} --threshold 0.3", ENV)
    assert (policy.module, policy.options.threshold) == ("baselines.elastic_depth", 0.3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"least": 0.6, "most": 0.5}, r"least=0.6 and most=0.5 must be shares"),
        ({"most": 1.5}, r"most=1.5 must be shares"),
        ({"threshold": -0.1}, r"threshold=-0.1 must be from 0 to 1"),
        ({"router_loss": -1.0}, r"router_loss=-1.0 must be a number, 0 or more"),
        ({"export": True}, "leave out --export"),
    ],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Options(**wrong)


def test_without_a_model_there_is_nothing_to_do(tmp_path):
    with pytest.raises(ValueError, match="--run runs/NAME"):
        train(options_of(None, tmp_path))
    assert not list(tmp_path.iterdir())
