"""Tables of fixed sharings whose losses are made, without training."""

import dataclasses

import numpy as np

from tiegym.bench.table import Table, write_table
from tiegym.bench.tree import sharings
from tiegym.config import TieConfig


def made_patterns(path, loss, n_layer=4, train=(0, 1, 2, 3), held_out=(4, 5), noise=0.01):
    """Writes a table whose losses are planted; returns its path as text.

    Args:
        path: Of the file.
        loss: Of sharings (N, L) at the end, (N,), whatever the seed but for some noise.
        n_layer: Layers L.
        train: Recorded seeds.
        held_out: Seeds in which all losses are 10 times as high.
        noise: Its standard deviation, in nats.
    """
    rng, vectors = np.random.default_rng(0), sharings(n_layer)
    seeds = len(train) + len(held_out)
    losses = loss(vectors) + rng.normal(0, noise, (seeds, len(vectors)))
    losses[len(train) :] *= 10
    arrays = {}
    for key in ("train", "val", "test"):
        early = np.abs(
            rng.normal(3, 1, losses.shape)
        )  # what decides is the end, of the validation set
        arrays[f"fixed_{key}"] = np.stack([early, losses if key == "val" else early], axis=2)
        arrays[f"shallow_{key}"] = np.ones((seeds, n_layer - 1, 2))
    config = dataclasses.asdict(TieConfig(n_layer=n_layer, divergence_loss=80.0))
    facts = {"config": {**config, "corpus": "elsewhere"}}
    splits = {"train": [*train], "held-out": [*held_out]}
    write_table(path, Table(path.stem, facts, splits, np.array([5, 10]), arrays))
    return str(path)


def planted(groups):
    """A loss that is lowest where the first layer has weights of its own, and neighbours share."""
    first = (groups[:, 1:] == groups[:, :1]).mean(axis=1)
    neighbours = (groups[:, 1:] == groups[:, :-1]).mean(axis=1)
    return 3 + 0.5 * first - 0.2 * neighbours
