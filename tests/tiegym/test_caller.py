"""What a caller has switched on for itself changes no bit of a training run."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import tiegym
from tests.tiegym.default_dtype import default_dtype
from tests.tiegym.small import SMALL
from tiegym.data.tasks.load import load_task
from tiegym.features import FEATURES, POSITION_FEATURES
from tiegym.transformer.gpt2_export import gpt2_tensors
from tiegym.transformer.layer_stats import layer_similarity


@contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "with meta": lambda: torch.device("meta"),
    "default meta": lambda: default_device("meta"),
    "deterministic": deterministic,
}


def life(context, folder, **changes):
    """All that a run is used for, each call in the context; the bits that come of it."""
    bits = []

    def note(value):
        bits.append([t.detach().clone() for t in value] if isinstance(value, list) else value)

    with context():
        env = tiegym.TieEnv(**SMALL | changes)
        env.reset(seed=0)
        env.step(1)
        snapshot = env.snapshot()
        twin = env.fork()
        env.save_checkpoint(folder / "checkpoint")
        again = tiegym.TieEnv(**SMALL | changes)
        again.load_checkpoint(folder / "checkpoint")
        env.step(2)
        env.restore(snapshot)
        env.export(folder / "model")
        model = tiegym.load_model(folder / "model")
        note(tiegym.generate(model, torch.zeros((1, 2), dtype=torch.long, device="cpu"), 8))
        note(list(gpt2_tensors(model).values()))
        note(torch.from_numpy(layer_similarity(env.model)))
        note(env.test_metrics())
        unbuilt = tiegym.TieEnv(**SMALL | changes)
        unbuilt.reset(seed=0)
    for one in (env, twin, again, unbuilt):  # begun within, they go on without
        note(answer(one.step(0)))
        with context():
            note(answer(one.step(3)))
        note(list(one.model.parameters()))
        assert all(p.dtype == torch.float32 and p.device.type == "cpu" for p in bits[-1])
        assert not any(p.is_inference() for p in one.model.parameters())
    note(list(model.parameters()))
    assert not any(p.is_inference() for p in model.parameters())
    return bits


def answer(result):
    """What a step answered, as plain values."""
    observation, reward, _, _, info = result
    stats, rewards = observation["layer_stats"].tolist(), np.array(reward).tolist()
    return stats, rewards, np.array([info["train_loss"], info["val_loss"]]).tolist()


def equal(mine, its):
    if isinstance(mine, list) and isinstance(mine[0], torch.Tensor):
        return all(torch.equal(a, b) for a, b in zip(mine, its, strict=True))
    return torch.equal(mine, its) if isinstance(mine, torch.Tensor) else mine == its


def life_of_many(context, folder, **changes):
    """The same of a population."""
    arguments = SMALL | changes
    with context():
        envs = tiegym.TiePopulation(2, **arguments)
        envs.reset(seed=0)
        found = [answer(envs.step(actions)) for actions in ([1, 0], [1, 2])]
        envs.save_checkpoint(folder / "checkpoint")
        again = tiegym.TiePopulation(2, **arguments)
        again.load_checkpoint(folder / "checkpoint")
        found.append(envs.test_losses())
        tensors = envs.snapshot(1).tensors
    assert all(t.dtype == torch.float32 for name, t in tensors.items() if name.startswith("o"))
    for many in (envs, again):
        found.append(answer(many.step([0, 3])))
        with context():
            found.append(answer(many.step([3, 0])))
    return found


@pytest.mark.parametrize("name", CONTEXTS)
def test_no_context_of_the_caller_reaches_into_a_population(name, tmp_path):
    changes = {"dtype": "float32", "dropout": 0.1}
    expected = life_of_many(torch.enable_grad, tmp_path, **changes)
    assert life_of_many(CONTEXTS[name], tmp_path, **changes) == expected


@pytest.mark.parametrize("name", CONTEXTS)
def test_no_context_of_the_caller_reaches_in(name, tmp_path):
    changes = {"dtype": "float32", "dropout": 0.1, "loss_chunk": 7, "tie_grad": "sum"}
    changes["features"] = "+".join(FEATURES + POSITION_FEATURES)
    expected = life(torch.enable_grad, tmp_path, **changes)
    result = life(CONTEXTS[name], tmp_path, **changes)
    assert len(expected) == len(result)
    assert all(equal(a, b) for a, b in zip(result, expected, strict=True))


@pytest.mark.parametrize("name", ["inference_mode", "autocast", "with meta"])
def test_activations_are_computed_again_without_the_callers_context(name, tmp_path):
    changes = {"dtype": "float32", "dropout": 0.1, "checkpoint_activations": True}
    expected = life(torch.enable_grad, tmp_path, **changes)
    result = life(CONTEXTS[name], tmp_path, **changes)
    assert all(equal(a, b) for a, b in zip(result, expected, strict=True))


def test_the_callers_context_is_as_it_was_afterwards():
    env = tiegym.TieEnv(**SMALL)
    env.reset(seed=0)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"):
        env.step(1)
        with pytest.raises(ValueError, match="is not in"):
            env.step(-1)
        assert torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
        assert torch.is_autocast_enabled("cpu")
        assert torch.empty(1).device.type == "meta"


def test_masks_are_drawn_alike_whatever_the_default_dtype():
    task = load_task("masked-language-modeling", "synthetic:2000", tokenizer="bytes", block_size=8)
    data = task.data(torch.device("cpu"))

    def drawn():
        inputs, targets = data.sample("train", 4, torch.Generator().manual_seed(0))
        return [*inputs.values(), targets]

    expected = drawn()
    with default_dtype(torch.float64):
        assert all(torch.equal(a, b) for a, b in zip(drawn(), expected, strict=True))
