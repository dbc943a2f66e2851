"""What only a GPU can show: everything that a CPU's tests show of state, there."""

from __future__ import annotations

import pickle

import gymnasium
import numpy as np
import pytest
import torch

import tiegym
from tests.tiegym.small import SMALL
from tests.tiegym.test_population import assert_close

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GPU = SMALL | {"device": "cuda", "dtype": "float32", "action": "joint"}
ACTIONS = [[1, 1, 3], [0, 2, 2], [1, 0, 3], [1, 1, 1], [0, 0, 0], [1, 2, 3]]
KINDS = {
    "owner": {},
    "sum, dropout": {"tie_grad": "sum", "dropout": 0.1},
    "checkpointed": {"checkpoint_activations": True, "dropout": 0.1},
    "bfloat16": {"dtype": "bfloat16"},
    "mixed": {"dtype": "bfloat16-mixed", "tie_grad": "sum"},
    "private": {"private": "norms+lora:2"},
    "int4 trains": {"quantize": "int4", "factorize": "tt:4", "grad_accum": 2},
    "compiled": {"compile": True},
}


def begun(kind, n_steps=0, **changes):
    env = tiegym.TieEnv(**GPU | KINDS[kind] | changes)
    env.reset(seed=0)
    play(env, ACTIONS[:n_steps])
    return env


def play(env, actions):
    found = [env.step(np.array(action)) for action in actions]
    return [(reward, info["train_loss"], info["val_loss"]) for _, reward, _, _, info in found]


@pytest.mark.parametrize("kind", KINDS)
def test_every_copy_goes_on_as_the_run_itself(kind, tmp_path):
    env = begun(kind, 3)
    env.save_checkpoint(tmp_path / "here.safetensors")
    loaded = tiegym.TieEnv(**GPU | KINDS[kind])
    loaded.load_checkpoint(tmp_path / "here.safetensors")
    snapshot = env.snapshot()
    copies = [env.fork(), loaded, pickle.loads(pickle.dumps(env))]
    expected = play(env, ACTIONS[3:])
    assert np.isfinite(expected).all()
    near = 2e-2 if "bfloat16" in env.config.dtype else 1e-5
    for copy in copies:
        np.testing.assert_allclose(play(copy, ACTIONS[3:]), expected, rtol=near, atol=near)
    env.restore(snapshot)
    np.testing.assert_allclose(play(env, ACTIONS[3:]), expected, rtol=near, atol=near)


@pytest.mark.parametrize("kind", ["owner", "sum, dropout", "private", "int4 trains"])
def test_an_exported_model_is_the_same_on_a_cpu(kind, tmp_path):
    env = begun(kind, 4)
    env.export(tmp_path / "model.safetensors")
    model = tiegym.load_model(tmp_path / "model.safetensors")
    tokens = torch.arange(32).view(2, 16)
    with torch.no_grad():
        there = env.model.eval()(tokens.cuda()).cpu()
        here = model.eval()(tokens)
    torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["owner", "sum, dropout", "checkpointed"])
def test_losses_and_gradients_are_those_of_a_cpu(kind):
    env = begun(kind, 2, dropout=0.0)
    batch = env.unwrapped._trainer.workload.sample(
        "train", 4, torch.Generator("cuda").manual_seed(0)
    )
    found = {}
    for device in ("cuda", "cpu"):
        model = env.model.to(device).train()
        for parameter in model.parameters():
            parameter.grad = None
        loss = model.loss(*(tokens.to(device) for tokens in batch))
        loss.backward()
        found[device] = [loss.item(), *(p.grad.norm().item() for p in model.parameters())]
    np.testing.assert_allclose(found["cuda"], found["cpu"], rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["owner", "sum, dropout"])
def test_a_population_is_its_environments(kind):
    arguments = GPU | {"max_iters": 5, "dropout": 0.0} | {"tie_grad": begun(kind).config.tie_grad}
    mine = gymnasium.make_vec("TiePopulation-v0", num_envs=3, **arguments)
    theirs = gymnasium.make_vec("TieEnv-v0", num_envs=3, vectorization_mode="sync", **arguments)
    assert_close(mine.reset(seed=7), theirs.reset(seed=7))
    mine.action_space.seed(1)
    for _ in range(8):
        actions = mine.action_space.sample()
        for a, b in zip(mine.step(actions), theirs.step(actions), strict=True):
            assert_close(a, b)


def test_a_library_model_trains_forks_and_goes_back():
    pytest.importorskip("transformers")
    arguments = GPU | {"model": "llama", "n_layer": 4, "n_embd": 16, "n_head": 2, "dropout": 0.0}
    env = tiegym.TieEnv(**arguments)
    env.reset(seed=0)
    play(env, ACTIONS[:2])
    snapshot, twin = env.snapshot(), env.fork()
    expected = play(env, ACTIONS[2:])
    np.testing.assert_allclose(play(twin, ACTIONS[2:]), expected, rtol=1e-4)
    env.restore(snapshot)
    np.testing.assert_allclose(play(env, ACTIONS[2:]), expected, rtol=1e-4)


def test_tied_layers_take_less_of_the_gpu():
    sizes = {"n_layer": 12, "n_embd": 256, "n_head": 4, "action": "layerwise", "max_iters": 40}
    peaks = {}
    for ties in ("independent", "tied"):
        env = tiegym.TieEnv(**GPU | sizes | {"initial_ties": ties})
        env.reset(seed=0)
        for _ in range(2):
            env.step(0 if ties == "tied" else 1)
        peaks[ties] = env.step_stats["peak_allocated_bytes"]
        del env
    assert peaks["tied"] < 0.4 * peaks["independent"]
