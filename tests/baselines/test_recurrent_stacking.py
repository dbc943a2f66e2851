"""Recurrent stacking: where the shared layer comes from, its record, what is refused."""

import dataclasses

import numpy as np
import pytest
import torch

from baselines import fixed, recurrent_stacking
from baselines.policies import parse_policy
from baselines.recurrent_stacking import Options, train
from tests.baselines.cut_off import check_that_it_goes_on
from tests.tiegym.small import SMALL
from tiegym import load_model
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run
from tiegym.training.initial_weights import stacked
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer

ENV = TieConfig(**SMALL | {"learning_rate": 1e-2})


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished, untied run with its model."""
    folder = tmp_path_factory.mktemp("sources")
    options = fixed.Options(runs_dir=folder, quiet=True, export=True, env=ENV)
    return fixed.train(options)


def options_of(folder, **changes):
    return Options(**{"runs_dir": folder, "quiet": True, "env": ENV} | changes)


@pytest.mark.parametrize("ties", [[0, 1, 2, 2], [0, 1, 2, 2, 0, 0, 2, 3]])
@pytest.mark.parametrize("private", ["none", "norms+lora:2"])
def test_a_stacked_model_applies_one_layer_everywhere(ties, private):
    shape = Shape(vocab_size=9, n_layer=4, n_head=2, n_embd=8, block_size=4, private=private)
    model = TiedTransformer(shape, np.array(ties))
    model.initialize(0)
    one = stacked(model, 3)
    assert not one.ties.any()
    for layer in range(4):
        for mine, its in zip(one.shared_weights(layer), model.shared_weights(3), strict=True):
            assert mine is its is None or torch.equal(mine, its)
        for mine, its in zip(one.private_weights(layer), model.private_weights(layer), strict=True):
            assert mine is its is None or all(map(torch.equal, mine, its))
    assert torch.equal(one.token_embedding, model.token_embedding)
    with pytest.raises(ValueError, match=r"layer=4 must be one of the model's, from 0 to 3"):
        stacked(model, 4)


def test_with_a_run_it_begins_as_one_of_its_layers(source, tmp_path):
    still = dataclasses.replace(ENV, learning_rate=1e-12, max_iters=2)
    options = options_of(tmp_path, env=still, run=source, layer=2, export=True, deepest=5)
    run = read_run(train(options))
    mine, theirs = (load_model(f / "model.safetensors") for f in (run.folder, source))
    torch.testing.assert_close(
        mine.independent(0).qkv_weight, theirs.independent(2).qkv_weight, rtol=0, atol=1e-9
    )
    assert (run.config["env"]["tie_grad"], run.config["protocol"]) == ("sum", "pretrained")
    assert run.config["source"]["program"] == "fixed-independent"
    assert run.summary["extra_iterations"] == ENV.max_iters
    losses = run.summary["losses_by_depth"]["test"]
    assert len(losses) == 5  # layer reduction, and one application more
    assert np.exp(losses[3]) == pytest.approx(run.summary["final"]["test_perplexity"])


def test_without_one_it_is_untied_at_first_and_then_stacked(tmp_path):
    run = read_run(train(options_of(tmp_path, at=0.5)))
    assert [row["ties"] for row in run.steps] == [[0, 1, 2, 3]] * 3 + [[0, 0, 0, 0]] * 3
    assert "protocol" not in run.config  # it learns nothing
    assert len(run.summary["losses_by_depth"]["validation"]) == 4
    tied = read_run(train(options_of(tmp_path, at=0.0)))
    plain = fixed.Options(
        pattern="tied", runs_dir=tmp_path, quiet=True, env=dataclasses.replace(ENV, tie_grad="sum")
    )
    expected = [row["val_loss"] for row in read_run(fixed.train(plain)).steps]
    assert [row["val_loss"] for row in tied.steps] == expected


def test_it_goes_on_to_the_same_bits_after_it_was_cut_off(source, tmp_path, monkeypatch):
    options = options_of(tmp_path, run=source, layer=1, checkpoint_every_steps=1)
    check_that_it_goes_on(train, options, monkeypatch, recurrent_stacking, 2)


def test_it_is_an_arm_of_a_comparison(source):
    policy = parse_policy(f"recurrent-stacking --run {source} --layer 1", ENV)
    assert (policy.module, policy.options.layer) == ("baselines.recurrent_stacking", 1)
    assert parse_policy("recurrent-stacking --at 0.2", ENV).options.at == 0.2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layer": 1}, "layer=1 has no effect without run"),
        ({"at": 1.0}, r"at=1.0 must be a share, from 0 to below 1"),
        ({"at": 0.5, "run": "runs/x"}, r"at=0.5 has no effect with run"),
        ({"deepest": 0}, r"deepest=0 must be at least 1"),
        ({"env": TieConfig(features="taylor")}, r"taylor.*action='joint'"),
    ],
)
def test_nonsense_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Options(**wrong)


def test_a_model_that_does_not_fit_is_refused_and_leaves_no_folder(source, tmp_path):
    with pytest.raises(ValueError, match=r"layer=9 must be one of the model's"):
        train(options_of(tmp_path, run=source, layer=9))
    env = dataclasses.replace(ENV, n_embd=32)
    with pytest.raises(ValueError, match="has n_embd=16, but this transformer 32"):
        train(options_of(tmp_path, run=source, env=env))
    assert not list(tmp_path.iterdir())
