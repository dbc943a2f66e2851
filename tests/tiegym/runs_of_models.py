"""Playing environments, for tests of models of the library `transformers`."""

import numpy as np

MIXED = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4}
"""Entries of a configuration with layers of two kinds."""


def play(env, actions):
    steps = [env.step(action) for action in actions]
    assert all(np.isfinite(reward) for _, reward, *_ in steps)
    return [(reward, info["ties"].tolist(), info["train_loss"]) for _, reward, *_, info in steps]
