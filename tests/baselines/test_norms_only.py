"""Norms only: what trains, what is recorded, what is refused."""

import dataclasses
import shutil

import pytest
import torch

from baselines import fixed, frozen_model
from baselines.norms_only import Options, main, train
from baselines.policies import parse_policy
from tests.baselines.cut_off import check_that_it_goes_on
from tests.tiegym.small import SMALL
from tiegym import load_model
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)
C = 16


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Finished runs with their models, one of whole layers and one of parts."""
    found = {}
    for tie_parts in ("block", "attention+mlp"):
        env = dataclasses.replace(ENV, tie_parts=tie_parts, learning_rate=1e-2)
        options = fixed.Options(
            pattern="cycle:2",
            seed=5,
            runs_dir=tmp_path_factory.mktemp("sources"),
            quiet=True,
            export=True,
            env=env,
        )
        found[tie_parts] = fixed.train(options)
    return found


def options_of(source, folder, **changes):
    env = dataclasses.replace(ENV, learning_rate=1e-2, action="pair", private="scales")
    given = {"runs_dir": folder, "quiet": True, "export": True, "env": env, "run": source}
    return Options(**given | changes)


@pytest.mark.parametrize("tie_parts", ["block", "attention+mlp"])
def test_nothing_but_the_norms_changes(sources, tmp_path, tie_parts):
    run = read_run(train(options_of(sources[tie_parts], tmp_path)))
    before = load_model(sources[tie_parts] / "model.safetensors")
    after = load_model(run.folder / "model.safetensors")
    assert before.ties.tolist() == after.ties.tolist() == run.summary["final"]["ties"]
    norms = dict(after.named_parameters())
    for name, p in before.named_parameters():
        if ".norm" not in name and not name.startswith("final_norm"):
            assert torch.equal(norms.pop(name), p)
    own = [name for name in norms if name.startswith("private.")]
    assert len(own) == 4 * 4  # of each layer, tied or not
    assert len(norms) == len(own) + 2
    for layer in range(4):
        root, mine = before.shared_weights(layer), after.private_part(layer)
        for name, p in mine.named_parameters():
            assert not torch.equal(p, getattr(root, name))
    assert not torch.equal(after.private_part(0).norm_1_weight, after.private_part(2).norm_1_weight)


@pytest.mark.parametrize("tie_parts", ["block", "attention+mlp"])
def test_its_parameters_and_bytes_are_those_of_the_norms(sources, tmp_path, tie_parts):
    run = read_run(train(options_of(sources[tie_parts], tmp_path)))
    trained = 4 * (4 * C) + 2 * C
    held = sum(p.numel() for p in load_model(run.folder / "model.safetensors").parameters())
    for row in run.steps:
        assert row["trainable_params"] == trained
        assert row["model_state_bytes"] == 4 * (held + 3 * trained) + 4 * (4 * 4 + 2)
    assert run.summary["final"]["frozen"] == [True, True, False, False] * ENV_PARTS[tie_parts]


ENV_PARTS = {"block": 1, "attention+mlp": 2}


def test_it_begins_where_the_model_ended_and_gets_better(sources, tmp_path):
    source = read_run(sources["block"])
    env = dataclasses.replace(ENV, learning_rate=1e-2, eval_batches=8, max_iters=100)
    still = dataclasses.replace(env, learning_rate=1e-9)
    first = read_run(train(options_of(source.folder, tmp_path, env=still)))
    assert first.summary["final"]["test_perplexity"] == pytest.approx(
        source.summary["final"]["test_perplexity"], rel=1e-4
    )
    run = read_run(train(options_of(source.folder, tmp_path, env=env)))
    assert run.steps[-1]["val_loss"] < first.steps[-1]["val_loss"]


def test_the_record_names_the_source_and_its_price(sources, tmp_path):
    run = read_run(train(options_of(sources["block"], tmp_path)))
    assert run.config["program"] == "norms-only"
    assert run.config["protocol"] == "pretrained"
    assert run.config["source"]["program"] == "fixed-cycle:2"
    assert len(run.config["source"]["model_sha256"]) == 64
    assert run.summary["extra_iterations"] == ENV.max_iters


def test_it_goes_on_to_the_same_bits_after_it_was_cut_off(sources, tmp_path, monkeypatch):
    options = options_of(sources["block"], tmp_path, checkpoint_every_steps=1)
    check_that_it_goes_on(train, options, monkeypatch, frozen_model, 4)


def test_it_is_an_arm_of_a_comparison_and_takes_its_environment(sources):
    policy = parse_policy(f"norms-only --run {sources['block']}", ENV)
    assert policy.module == "baselines.norms_only"
    assert (policy.options.run, policy.options.env) == (sources["block"], ENV)


def test_the_command_line_takes_the_environment_of_the_run(sources, tmp_path, capsys):
    main(f"--run {sources['block']} --runs-dir {tmp_path} --quiet --env.max-iters 4".split())
    folder = capsys.readouterr().out.strip().removeprefix("run folder: ")
    given = read_run(folder).config["env"]
    assert (given["max_iters"], given["learning_rate"], given["private"]) == (4, 1e-2, "norms")
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "layer norms of a model" in " ".join(capsys.readouterr().out.split())


def test_a_run_without_a_model_that_fits_is_refused(sources, tmp_path):
    def attempt(source, **changes):
        train(options_of(source, tmp_path / "new", **changes))

    with pytest.raises(ValueError, match="--run runs/NAME"):
        attempt(None)
    with pytest.raises(ValueError, match="nowhere is no run folder"):
        attempt(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is of 4 layers, but env.n_layer=5"):
        attempt(sources["block"], env=dataclasses.replace(ENV, n_layer=5))
    with pytest.raises(ValueError, match=r"has n_embd=16, but this transformer 32"):
        attempt(sources["block"], env=dataclasses.replace(ENV, n_embd=32))
    with pytest.raises(InputError, match=r"has taylor.*action='joint'"):
        attempt(sources["block"], env=dataclasses.replace(ENV, features="taylor"))
    bare = tmp_path / "bare"
    shutil.copytree(sources["block"], bare)
    (bare / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"model.safetensors"):
        attempt(bare)
    (bare / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"holds no model.safetensors"):
        attempt(bare)
    assert not (tmp_path / "new").exists()
