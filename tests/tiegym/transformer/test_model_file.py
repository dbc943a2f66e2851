"""Exported models: equal to the trained ones, light to load, and at hand after a run."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import tiegym
from agents import dqn, qlearning
from baselines import fixed
from tests.tiegym.small import SMALL
from tiegym import cli
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.training.trainer import Trainer
from tiegym.transformer.tensor_file import read_tensors


@pytest.mark.parametrize("dtype", ["float32", "bfloat16-mixed", "bfloat16"])
def test_a_loaded_model_gives_the_logits_of_the_trained_one_in_every_precision(tmp_path, dtype):
    env = TieEnv(**SMALL, dtype=dtype)
    env.reset(seed=0)
    for action in (1, 0, 3):
        env.step(action)
    env.export(tmp_path / "model.safetensors")
    tokens = torch.arange(16)[None]
    with torch.no_grad():
        trained = env.model.eval()(tokens)
        assert torch.equal(tiegym.load_model(tmp_path / "model.safetensors")(tokens), trained)
        full = tiegym.load_model(tmp_path / "model.safetensors", dtype=torch.float32)(tokens)
    assert full.dtype == torch.float32
    assert torch.allclose(full, trained.float(), atol=0.02)


def test_a_loaded_model_trains_on_with_the_same_dropout(tmp_path):
    env = TieEnv(**SMALL, dropout=0.25)
    env.reset(seed=0)
    env.export(tmp_path / "model.safetensors")
    model = tiegym.load_model(tmp_path / "model.safetensors")
    assert model.dropout == 0.25
    assert not model.training


def test_without_private_parts_the_file_is_that_of_older_versions(tmp_path):
    for private, names in (("none", set()), ("scales", {"private"})):
        env = TieEnv(**SMALL | {"private": private})
        env.reset(seed=0)
        env.export(tmp_path / private)
        _, values = read_tensors(tmp_path / private, "model")
        older = {"vocab_size", "n_layer", "n_head", "n_embd", "block_size"}
        assert set(values["shape"]) == older | names


def test_loading_a_model_imports_no_more_than_it_needs(tmp_path):
    env = TieEnv(**SMALL)
    env.reset(seed=0)
    env.export(tmp_path / "model.safetensors")
    code = (
        "import sys, tiegym; tiegym.load_model(sys.argv[1]);"
        "print([m for m in ('transformers', 'datasets', 'tokenizers', 'stable_baselines3', 'scipy',"
        " 'matplotlib', 'tiegym.env') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "model.safetensors"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "[]"


def replayed(run, seed):
    """The environment after the recorded actions."""
    env = TieEnv(**run.config["env"])
    env.reset(seed=seed)
    for row in run.steps:
        env.step(np.int64(row["action"]))
    return env


@pytest.mark.parametrize("program", [fixed, qlearning])
def test_a_run_with_export_leaves_the_model_of_its_last_iteration(tmp_path, program):
    options = program.Options(
        seed=3, runs_dir=tmp_path, quiet=True, export=True, env=TieConfig(**SMALL)
    )
    run = tiegym.read_run(program.train(options))
    model = tiegym.load_model(run.folder / "model.safetensors")
    env = replayed(run, seed=3)
    tokens = torch.arange(16)[None]
    assert model.ties.tolist() == run.summary["final"]["ties"]
    assert torch.equal(model(tokens), env.model.eval()(tokens))


@pytest.mark.parametrize("program", [dqn, qlearning])
def test_only_the_run_that_is_reported_is_exported(tmp_path, monkeypatch, program):
    exported, export = [], TieEnv.export
    monkeypatch.setattr(TieEnv, "export", lambda env, path: exported.append(export(env, path)))
    program.train(
        program.Options(
            pretrain_runs=2, runs_dir=tmp_path, quiet=True, export=True, env=TieConfig(**SMALL)
        )
    )
    assert len(exported) == 1


def test_a_run_without_export_leaves_no_model(tmp_path):
    options = fixed.Options(runs_dir=tmp_path, quiet=True, env=TieConfig(**SMALL))
    assert not (fixed.train(options) / "model.safetensors").exists()


@pytest.mark.parametrize("steps_before_the_end", [3, 8])  # in the first and in the second episode
def test_a_run_that_was_cut_off_leaves_the_same_model(tmp_path, monkeypatch, steps_before_the_end):
    options = fixed.Options(
        pattern="cycle:2",
        runs_dir=tmp_path,
        quiet=True,
        export=True,
        total_steps=12,
        env=TieConfig(**SMALL),
    )
    whole = fixed.train(options) / "model.safetensors"
    train, calls = Trainer.train, []

    def killed(self, iterations, start, *others):
        calls.append(iterations)
        if len(calls) > steps_before_the_end:
            raise KeyboardInterrupt
        return train(self, iterations, start, *others)

    monkeypatch.setattr(Trainer, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        fixed.train(options)
    monkeypatch.setattr(Trainer, "train", train)
    (folder,) = (f for f in tmp_path.iterdir() if f != whole.parent)
    fixed.train(dataclasses.replace(options, resume=folder))
    expected, values = read_tensors(whole, "model")
    tensors, resumed_values = read_tensors(folder / "model.safetensors", "model")
    assert resumed_values == values
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    options = fixed.Options(
        runs_dir=tmp_path_factory.mktemp("runs"), quiet=True, export=True, env=TieConfig(**SMALL)
    )
    return fixed.train(options)


@pytest.mark.parametrize("of", ["", "model.safetensors"])
def test_the_command_exports_a_run_or_a_file(run_folder, tmp_path, capsys, of):
    cli.main(["export", str(run_folder / of), "--to", "hf", "--out", str(tmp_path / "gpt2")])
    assert capsys.readouterr().out == f"exported: {tmp_path / 'gpt2'}\n"
    written = load_file(tmp_path / "gpt2" / "model.safetensors")
    model = tiegym.load_model(run_folder / "model.safetensors")
    assert torch.equal(written["transformer.wte.weight"], model.token_embedding)


def test_without_a_name_the_command_exports_beside_the_model(run_folder, capsys):
    cli.main(["export", str(run_folder)])
    assert (run_folder / "model-hf" / "config.json").is_file()
    with pytest.raises(SystemExit, match="2"):
        cli.main(["export", str(run_folder)])
    assert "model-hf is there already, and nothing is written over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("nowhere", "nowhere: there is no such run folder or file"),
        ("run", "run holds no model.safetensors: a run keeps its model only if its program is"),
        ("run/damaged.safetensors", "is damaged or no safetensors file"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_status_2(
    tmp_path, monkeypatch, capsys, run, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "damaged.safetensors").write_bytes(b"x")
    with pytest.raises(SystemExit, match="2"):
        cli.main(["export", run])
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not list(tmp_path.rglob("*-hf"))
