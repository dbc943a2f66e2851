"""Playing environments, and what must hold of them whatever the model, for tests."""

import pickle

import numpy as np
import torch

import tiegym

MIXED = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4}
"""Entries of a library model's configuration, with layers of two kinds."""


def play(env, actions):
    """Rewards, ties and training losses of some steps."""
    steps = [env.step(np.array(action)) for action in actions]
    assert all(np.isfinite(reward) for _, reward, *_ in steps)
    return [(reward, info["ties"].tolist(), info["train_loss"]) for _, reward, *_, info in steps]


def check_that_copies_go_on(arguments, actions, folder):
    """Checks that copies of an episode, half of which is over, go on to the same bits.

    Args:
        arguments: Of TieEnv.
        actions: A whole episode's, or fewer.
        folder: For the checkpoint.
    """
    env = tiegym.TieEnv(**arguments)
    env.reset(seed=3)
    half = len(actions) // 2
    play(env, actions[:half])
    env.save_checkpoint(folder / "here.safetensors")
    loaded = tiegym.TieEnv(**arguments)
    loaded.load_checkpoint(folder / "here.safetensors")
    snapshot, copies = env.snapshot(), [env.fork(), loaded, pickle.loads(pickle.dumps(env))]
    expected = play(env, actions[half:])
    for copy in copies:
        assert play(copy, actions[half:]) == expected
        for mine, its in zip(env.model.parameters(), copy.model.parameters(), strict=True):
            assert torch.equal(mine, its)
    env.restore(snapshot)
    assert play(env, actions[half:]) == expected
    env.reset(seed=3)
    assert play(env, actions)[half:] == expected


def check_state_bytes(env, info):
    """Checks that info counts what a float32 model holds; returns its numbers that don't train."""
    weights = list(env.model.parameters())
    trained = [p for p in weights if p.requires_grad]
    still = sum(p.numel() for p in weights if not p.requires_grad)
    numbers = sum(p.numel() for p in trained)
    assert info["trainable_params"] == numbers
    assert info["model_state_bytes"] == 16 * numbers + 4 * len(trained) + 4 * still
    return still
