"""Run folders as trajectories: observations are rebuilt from rows, exactly, but for layer_stats.

A row holds what a step led to: ties, losses, the iteration. With the configuration that decides the
cursor and the budget, and the loss before the first step is that of a uniform guess. The figures of
layers are in no record.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from tiegym import parts
from tiegym.actions import Actions
from tiegym.bench.table import NAMES_IN_TABLES
from tiegym.config import TieConfig
from tiegym.data.corpora import load_corpus
from tiegym.offline.trajectories import Trajectories, Trajectory, config_of
from tiegym.runs.folder import Row, Run
from tiegym.runs.input_errors import InputError

NEEDED = ("ties", "val_loss", "train_loss", "iteration", "action", "reward")
"""Of each row."""


def trajectories_of(run: Run, first_loss: float) -> Trajectories:
    """The whole episodes of a run.

    Args:
        run: Read.
        first_loss: Before the first step, in nats; see `find_first_loss`.

    Raises:
        InputError: If it has no whole episode, or its rows aren't those of a TieEnv.
    """
    env = run.config.get("env")
    if not isinstance(env, dict) or env.get("model", "gpt") != "gpt":
        model = env.get("model") if isinstance(env, dict) else None
        raise InputError(
            f"{run.folder} is of model={model!r}: only of our own, gpt, does a record say all that "
            "observations had"
        )
    config, found = config_of(env), []
    summary = run.summary or {}
    of_data_set = run.config.get("seeds")
    seeds: dict[int, Any] = {0: (run.config.get("options") or {}).get("seed")}
    seeds |= dict(enumerate(of_data_set if isinstance(of_data_set, list) else ()))
    seeds |= {e.get("episode"): e.get("seed") for e in summary.get("episodes", ())}
    for number, rows in groupby(run.steps, key=lambda row: row["episode"]):
        seed = seeds.get(number)
        known = seed if type(seed) is int and 0 <= seed < 2**63 else None
        episode = _episode(run.folder, config, list(rows), first_loss, known)
        if episode is not None:
            found.append(episode)
    if not found:
        raise InputError(f"{run.folder} has no whole episode: let it go on to the end of one")
    iterations = sum(e["iteration"] for e in _lasts(run.steps))
    iterations += int(summary.get("extra_iterations", 0))
    return Trajectories(env, run.config.get("corpus_sha256"), tuple(found), iterations)


def _lasts(steps: Sequence[Row]) -> list[Row]:
    """The last row of each episode."""
    return [list(rows)[-1] for _, rows in groupby(steps, key=lambda row: row["episode"])]


def _episode(
    folder: Path, config: TieConfig, rows: list[Row], first_loss: float, seed: int | None
) -> Trajectory | None:
    """An episode by its rows; None if it was cut off."""
    if not rows[-1].get("terminated"):
        return None
    actions = Actions.of(config)
    needed = (*NEEDED, "frozen") if actions.freeze else NEEDED
    where = f"{folder}, episode {rows[0]['episode']}"
    for row in rows:
        if missing := [name for name in needed if row.get(name) is None]:
            raise InputError(f"{where}: a step has no {missing[0]}, which an observation had")
    if [row.get("step") for row in rows] != list(range(1, len(rows) + 1)):
        raise InputError(f"{where}: steps are missing")
    if len(rows) > config.steps_per_episode:
        raise InputError(f"{where}: it has more steps than {config.steps_per_episode}")
    try:
        return _rebuilt(config, actions, rows, first_loss, seed)
    except (OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{where} is none of its environment: {error}") from error


def _rebuilt(
    config: TieConfig, actions: Actions, rows: list[Row], first_loss: float, seed: int | None
) -> Trajectory:
    """The episode of rows that have what is needed; a ValueError says what can't be."""
    units = [actions.first()]
    for _ in rows:
        units.append(actions.following(units[-1]))
    losses = [[first_loss] * 2, *([row["train_loss"], row["val_loss"]] for row in rows)]
    iterations = np.array([0, *(row["iteration"] for row in rows)])
    if (np.diff(iterations) <= 0).any() or iterations[-1] > config.max_iters:
        raise ValueError(f"iterations must rise, to {config.max_iters} at most")
    ties = [parts.validate(row["ties"], config.n_layer, config.n_parts) for row in rows]
    observations: dict[str, Any] = {
        "ties": np.array([actions.initial_ties(config), *ties], dtype=np.int16),
        "layer": np.array(units, dtype=np.int16) % config.n_layer,
        "budget": (iterations / config.max_iters).astype(np.float32)[:, None],
        "loss": np.array(losses, dtype=np.float32).clip(0, config.divergence_loss),
    }
    if actions.n_parts > 1:
        observations["part"] = np.array(units, dtype=np.int16) // config.n_layer
    if actions.freeze:
        frozen = np.array([[False] * actions.n_units, *(row["frozen"] for row in rows)])
        if frozen.dtype != np.bool_:
            raise ValueError("what is frozen must be true or false")
        observations["frozen"] = frozen.astype(np.int8)
    chosen, space = np.array([row["action"] for row in rows]), actions.space()
    if chosen.dtype != np.int64 or not all(space.contains(action) for action in chosen):
        raise ValueError(f"an action isn't in {space}")
    rewards = np.array([row["reward"] for row in rows], dtype=np.float64)
    return Trajectory(observations, chosen, rewards, seed)


def find_first_loss(env: Mapping[str, Any], sha256: str | None, corpus: str | None = None) -> float:
    """The loss in nats before the first step: ln of the tokenizer's vocabulary.

    Bytes are 256. For other tokenizers the text is needed. A record's own name of it is followed
    if it is a name, and never if it is a path.

    Args:
        env: The recorded arguments of the environment.
        sha256: Of the text, as recorded.
        corpus: The text, named by the user; None takes the record's name.

    Raises:
        InputError: If it can't be had.
    """
    tokenizer = str(env.get("tokenizer", "bytes"))
    if tokenizer == "bytes":
        return math.log(256)
    named = str(env.get("corpus")) if corpus is None else corpus
    for name, value in (("corpus", named), ("tokenizer", tokenizer)):
        trusted = name == "corpus" and corpus is not None
        if not trusted and not NAMES_IN_TABLES[name].fullmatch(value):
            raise InputError(
                f"a record names the {name} {value!r}, which may be a path, and no path that a "
                "record names is read. Of the text, give your own with --corpus; with such a "
                "tokenizer the run can't be converted"
            )
    try:
        text = load_corpus(named, tokenizer)
    except (OSError, ValueError) as error:
        raise InputError(
            f"the vocabulary of {tokenizer!r} needs the run's text: {error}"
        ) from error
    if text.sha256 != sha256:
        raise InputError(
            f"corpus {named!r} has sha256 {text.sha256}, and the run's had {sha256}: give its text "
            "with --corpus"
        )
    return math.log(text.vocab_size)
