"""Exported models: equal to the trained ones, light to load, and at hand after a run."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import tiegym
from agents import qlearning
from baselines import fixed
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.env import TieEnv


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


def test_a_run_without_export_leaves_no_model(tmp_path):
    options = fixed.Options(runs_dir=tmp_path, quiet=True, env=TieConfig(**SMALL))
    assert not (fixed.train(options) / "model.safetensors").exists()
