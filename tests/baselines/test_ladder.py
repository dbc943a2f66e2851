"""Ladder side-tuning as a program: what trains, what is recorded, what is refused."""

import dataclasses
import json

import pytest

from baselines import fixed, frozen_model
from baselines.ladder import Options, main, train
from baselines.policies import parse_policy
from tests.baselines.cut_off import check_that_it_goes_on
from tests.tiegym.small import SMALL
from tiegym import TieEnv
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL | {"learning_rate": 1e-2})
C, W, L = 16, 4, 4
PART = (L + 1) * (C * W + W) + L + L * (12 * W * W + 13 * W) + 2 * W + W * C + C
PART_TENSORS = 2 * (L + 1) + 1 + 12 * L + 2 + 2


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run with its model."""
    folder = tmp_path_factory.mktemp("sources")
    options = fixed.Options(pattern="cycle:2", runs_dir=folder, quiet=True, export=True, env=ENV)
    return fixed.train(options)


def options_of(source, folder, **changes):
    given = {"runs_dir": folder, "quiet": True, "env": ENV, "run": source, "reduction": 4}
    return Options(**given | {"fisher_samples": 2} | changes)


def test_a_run_records_what_the_side_network_costs_and_gets_better(source, tmp_path):
    env = dataclasses.replace(
        ENV, max_iters=60, iters_per_step=20, eval_batches=4, checkpoint_activations=True
    )
    run = read_run(train(options_of(source, tmp_path, env=env)))
    assert run.config["program"] == "ladder"
    assert run.config["protocol"] == "pretrained"
    assert not run.config["env"]["checkpoint_activations"]  # which would do nothing
    assert run.config["source"]["program"] == "fixed-cycle:2"
    assert run.summary["extra_iterations"] == ENV.max_iters
    assert run.summary["part_bytes"] == 4 * PART
    held = 256 * C + C * C + 2 * C + 2 * (12 * C * C + 13 * C)  # 16 tokens of context, 2 layers
    for row in run.steps:
        assert row["ties"] == [0, 1, 0, 1]
        assert row["trainable_params"] == PART
        assert row["model_state_bytes"] == 4 * (held + 4 * PART) + 4 * PART_TENSORS
    assert run.steps[-1]["val_loss"] < run.steps[0]["val_loss"]


def test_a_model_of_few_bits_stays_what_it_is(tmp_path):
    env = dataclasses.replace(ENV, quantize="int4", tie_parts="attention+mlp")
    model = TieEnv(**dataclasses.asdict(env))
    _, info = model.reset(seed=0)
    model.export(tmp_path / "model.safetensors")
    run = read_run(train(options_of(tmp_path / "model.safetensors", tmp_path / "runs")))
    assert run.config["env"]["quantize"] == "int4"
    assert run.summary["final"]["stored_bytes"] == info["stored_bytes"] + 4 * PART


@pytest.mark.parametrize("steps", [1, 4])
def test_it_goes_on_to_the_same_bits_after_it_was_cut_off(source, tmp_path, monkeypatch, steps):
    env = dataclasses.replace(ENV, dropout=0.1)
    options = options_of(source, tmp_path, env=env, checkpoint_every_steps=1)
    check_that_it_goes_on(train, options, monkeypatch, frozen_model, steps)


def test_the_start_decides_where_it_begins(source, tmp_path):
    still = dataclasses.replace(ENV, learning_rate=1e-12, max_iters=2)
    losses = [
        read_run(train(options_of(source, tmp_path, env=still, fisher_samples=n))).steps[0][
            "val_loss"
        ]
        for n in (0, 2, 2)
    ]
    assert losses[0] != losses[1] == losses[2]


def test_an_exported_file_will_do_and_gives_the_command_line_its_sizes(source, tmp_path, capsys):
    file = source / "model.safetensors"
    small = "--env.corpus synthetic:20000 --env.max-iters 4 --env.test-tokens 100 --env.device cpu"
    main(f"--run {file} --runs-dir {tmp_path} --quiet --reduction 8 {small}".split())
    run = read_run(capsys.readouterr().out.strip().removeprefix("run folder: "))
    assert (run.config["env"]["n_embd"], run.config["env"]["n_layer"]) == (C, L)
    assert "program" not in run.config["source"]
    assert "extra_iterations" not in run.summary  # nobody knows what it cost


def test_it_is_an_arm_of_a_comparison(source):
    policy = parse_policy(f"ladder --run {source} --reduction 2", ENV)
    assert (policy.module, policy.options.reduction) == ("baselines.ladder", 2)


def test_the_environment_takes_another_workload_only_before_there_is_a_model():
    env = TieEnv(**SMALL)
    env.workload = env.workload
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(ValueError, match="the model is built"):
        env.workload = env.workload


def test_what_cannot_be_is_refused_and_leaves_no_folder(source, tmp_path):
    def attempt(**changes):
        train(options_of(changes.pop("source", source), tmp_path / "new", **changes))

    with pytest.raises(ValueError, match="--run runs/NAME"):
        attempt(source=None)
    with pytest.raises(ValueError, match=r"reduction=16 doesn't go with n_embd=16 and n_head=2"):
        attempt(reduction=16)
    with pytest.raises(ValueError, match=r"is of 4 layers, but env.n_layer=5"):
        attempt(env=dataclasses.replace(ENV, n_layer=5))
    with pytest.raises(ValueError, match="reduction=0 must be at least 1"):
        attempt(reduction=0)
    with pytest.raises(ValueError, match="fisher_samples=-1 must be 0 or more"):
        attempt(fisher_samples=-1)
    with pytest.raises(ValueError, match="leave out --export"):
        attempt(export=True)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(json.dumps({}).encode())
    with pytest.raises(ValueError, match=r"damaged.safetensors"):
        attempt(source=damaged)
    assert not (tmp_path / "new").exists()
