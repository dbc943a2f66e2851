"""Recording one seed of a table: every segment of its tree, every fixed sharing, shallow models.

Each run is TieEnv's own: reset with the seed, steps, snapshots. Whatever TieEnv would have said
after the same decisions is what is recorded; to the bit, but for fixed sharings of tables of
patterns that train together, where sums are rounded otherwise.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium.utils.seeding import np_random

from tiegym.bench.tree import Tree, grow_tree, sharings
from tiegym.config import TieConfig
from tiegym.data.corpora import load_corpus
from tiegym.env import TieEnv
from tiegym.episode import Snapshot
from tiegym.runs.input_errors import InputError
from tiegym.ties import Ties
from tiegym.training.population import Population

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
AT_A_TIME = 29
"""Sharings that train at a time; the 203 of six layers are seven times as many."""

TOGETHER_UP_TO = 64
"""The largest width at which training together is faster on a CPU; see docs/populations.md."""

TYPES = {"train": np.float64, "val": np.float32, "test": np.float64, "stats": np.float32}
"""Training and test losses are means in float64 of float32 numbers."""


class Diverged(InputError):
    """A run of the table diverged: there is no table of such a setting."""


def record_tree(config: TieConfig, n_sweeps: int, seed: int) -> Arrays:
    """All segments of the tree of decisions: `train`, `val`, `test` (S,) and `stats` (S, L F).

    Args:
        config: With action="layerwise", initial_ties="tied" and the budget of the sweeps.
        n_sweeps: Sweeps.
        seed: Of the environment's reset.

    Raises:
        Diverged: If a run diverges.
    """
    tree = grow_tree(config.n_layer, n_sweeps)
    env = TieEnv(**dataclasses.asdict(config))
    env.reset(seed=seed)
    width = len(env.observation_space["layer_stats"].sample())  # type: ignore[index]
    arrays: Arrays = {
        key: np.full((tree.n_segments, width) if key == "stats" else tree.n_segments, np.nan, kind)
        for key, kind in TYPES.items()
    }
    _branch(env, tree, env.snapshot(), [0], arrays)
    return arrays


def _branch(env: TieEnv, tree: Tree, start: Snapshot, nodes: list[int], arrays: Arrays) -> None:
    """Records what follows some nodes that come from the same segment with the same roots."""
    ways: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for node in nodes:
        for action in range(tree.layer[node] + 1):
            child = int(tree.children[node, action])
            ways[int(tree.segment[child])].append((node, action, child))
    for segment, same in ways.items():
        node, action, _ = same[0]
        env.restore(_with_ties(start, tree.ties[node].tolist()))
        observation, _, _, _, info = env.step(action)
        _check(info)
        arrays["train"][segment] = info["train_loss"]
        arrays["val"][segment] = info["val_loss"]
        arrays["test"][segment] = env.test_loss()
        arrays["stats"][segment] = observation["layer_stats"]
        children = sorted({child for _, _, child in same})
        if tree.children[children[0], 0] >= 0:
            _branch(env, tree, env.snapshot(), children, arrays)


def _with_ties(snapshot: Snapshot, ties: list[int]) -> Snapshot:
    """The same weights under other ties with the same roots."""
    episode = {**snapshot.values["episode"], "ties": ties}
    return dataclasses.replace(snapshot, values={**snapshot.values, "episode": episode})


def record_fixed(config: TieConfig, seed: int, together: bool = False) -> Arrays:
    """The curves of every fixed sharing and of shallow models; see `tiegym.bench.table.Table`.

    Args:
        config: Of the table.
        seed: Of the environment's reset.
        together: Whether the sharings train together: faster where transformers are small, and
            what TieEnv would have said up to rounding.

    Raises:
        Diverged: If a run diverges.
    """
    vectors = sharings(config.n_layer)
    if together:
        result = curves_together(config, [*vectors], seed)
    else:
        result = curves(
            [dataclasses.replace(config, initial_ties=tuple(v.tolist())) for v in vectors], seed
        )
    shallow = [
        dataclasses.replace(config, n_layer=n, initial_ties="independent")
        for n in range(1, config.n_layer)
    ]
    others = curves(shallow, seed)
    return {f"fixed_{k}": v for k, v in result.items()} | {
        f"shallow_{k}": v for k, v in others.items()
    }


def curves(configs: list[TieConfig], seed: int) -> Arrays:
    """Of TieEnvs that keep their first ties: `train`, `val`, `test` (configurations, points)."""
    points = config_points(configs[0])
    arrays: Arrays = {
        key: np.full((len(configs), len(points)), np.nan, TYPES[key])
        for key in ("train", "val", "test")
    }
    for row, config in enumerate(configs):
        env = TieEnv(**dataclasses.asdict(config))
        observation, info = env.reset(seed=seed)
        for point in range(len(points)):
            keep = int(observation["ties"][observation["layer"]])
            observation, _, _, _, info = env.step(keep)
            _check(info)
            arrays["train"][row, point] = info["train_loss"]
            arrays["val"][row, point] = info["val_loss"]
            arrays["test"][row, point] = env.test_loss()
    return arrays


def curves_together(config: TieConfig, vectors: list[Ties], seed: int) -> Arrays:
    """The same as `curves`, of sharings that train at a time; all begin with the same weights."""
    corpus = load_corpus(config.corpus, config.tokenizer)
    # The same draw as that of an environment that is reset with this seed.
    own_seed = int(np_random(seed)[0].integers(2**48))
    found = []
    for first in range(0, len(vectors), AT_A_TIME):
        some = dict(enumerate(vectors[first : first + AT_A_TIME]))
        population = Population(config, corpus, len(some))
        population.reset(dict.fromkeys(some, own_seed), some)
        found.append(_train_together(population, some))
    return {key: np.concatenate([of[key] for of in found]) for key in found[0]}


def _train_together(population: Population, ties: dict[int, Ties]) -> Arrays:
    config, points, start = population.config, config_points(population.config), 0
    arrays: Arrays = {
        key: np.full((len(ties), len(points)), np.nan, TYPES[key])
        for key in ("train", "val", "test")
    }
    for column, point in enumerate(points):
        losses = population.train(dict.fromkeys(ties, point - start), dict.fromkeys(ties, start))
        arrays["train"][:, column] = losses.double().mean(1).cpu().numpy()
        arrays["val"][:, column] = population.validation_losses([*ties]).cpu().numpy()
        arrays["test"][:, column] = population.test_losses([*ties])
        worst = np.maximum(losses.max(1).values.cpu().numpy(), arrays["val"][:, column])
        for member in np.flatnonzero(~(worst <= config.divergence_loss)):
            _check({"diverged": True, "ties": ties[int(member)], "iteration": point})
        start = point
    return arrays


def config_points(config: TieConfig) -> list[int]:
    """The iterations after which an environment of this configuration evaluates."""
    return [config.iterations(step) for step in range(1, config.steps_per_episode + 1)]


def _check(info: dict[str, Any]) -> None:
    if info["diverged"]:
        raise Diverged(
            f"the run with ties {info['ties'].tolist()} diverged after {info['iteration']} "
            "iterations: lower the learning rate"
        )
