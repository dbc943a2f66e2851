"""What `tiegym minari` does: runs and tables to data sets, and a data set to the rows of a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiegym.analysis.find import find_runs
from tiegym.bench.environment import TieBench
from tiegym.offline.minari_data import read_data_set, write_data_set
from tiegym.offline.recorded import find_first_loss, trajectories_of
from tiegym.offline.trajectories import Trajectories, Trajectory, config_of, join
from tiegym.policies.fixed import FixedTies
from tiegym.policies.random_tying import RandomTying, drawn_ties
from tiegym.runs.folder import FORMAT, claim
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.json_files import append_line, plain, write_json
from tiegym.runs.regular_files import open_to_write


def from_runs(
    folders: Sequence[Path], corpus: str | None, out: Path, skip: Callable[[str], object]
) -> str:
    """Writes a data set of the whole episodes of runs; returns a sentence about it.

    Args:
        folders: Run folders, or folders that hold some.
        corpus: Their text, named by the user.
        out: The data set.
        skip: Called with a sentence for each run that is left out.

    Raises:
        InputError: If the runs can't be read, aren't of one environment, or can't be converted.
        OSError: If it can't be written.
    """
    found = []
    with as_input_errors():
        runs = find_runs(folders, skip)
        for run in runs:
            env = run.config["env"]
            loss = find_first_loss(env, run.config.get("corpus_sha256"), corpus)
            found.append(trajectories_of(run, loss))
    programs = sorted({str(run.config.get("program")) for run in runs})
    return _written(join(found), out, ", ".join(programs))


def from_table(table: str, episodes: int, behaviour: str, seed: int, out: Path) -> str:
    """Writes a data set of recorded runs of a table's train seeds; returns a sentence about it.

    Args:
        table: A tree's name or path.
        episodes: How many.
        behaviour: "random" or "random-fixed".
        seed: Of what is drawn.
        out: The data set.

    Raises:
        InputError: If there is no such tree, or no episode.
        OSError: If it can't be written.
    """
    with as_input_errors():
        found = play_table(table, episodes, behaviour, seed)
    return _written(found, out, behaviour)


def play_table(table: str, episodes: int, behaviour: str, seed: int) -> Trajectories:
    """Episodes that a policy decides on a table's train seeds; arguments as of `from_table`."""
    if episodes < 1:
        raise InputError(f"episodes={episodes} must be at least 1")
    if seed < 0:
        raise InputError(f"seed={seed} must be 0 or more")
    env, found = TieBench(table), []
    n_layer, rows = env.config.n_layer, env.recorded.runs
    policy: Any = RandomTying(env.action_space, n_layer, seed)
    draws = np.random.default_rng((seed, 3)).integers(len(rows), size=episodes)
    for number, run in enumerate(draws.tolist()):
        if behaviour == "random-fixed":
            policy = FixedTies(drawn_ties(n_layer, seed * episodes + number), env.action_space)
        observation, _ = env.reset(options={"run": run})
        seen, actions, rewards, terminated = [observation], [], [], False
        while not terminated:
            action, _ = policy.predict(observation)
            observation, reward, terminated, _, _ = env.step(action)
            seen.append(observation)
            actions.append(action)
            rewards.append(reward)
        arrays = {
            name: np.array([each[name] for each in seen], dtype=space.dtype)
            for name, space in env.observation_space.spaces.items()  # type: ignore[attr-defined]
        }
        recorded_seed = env.table.all_seeds[rows[run]]
        found.append(
            Trajectory(arrays, np.array(actions, np.int64), np.array(rewards), recorded_seed)
        )
    sha256 = env.table.facts["corpus_sha256"]
    return Trajectories(plain(dataclasses.asdict(env.config)), sha256, tuple(found), 0)


def _written(found: Trajectories, out: Path, made_by: str) -> str:
    write_data_set(found, out, made_by)
    steps = sum(len(one.actions) for one in found.episodes)
    return f"data set: {out}, {len(found.episodes)} episodes of {steps} steps"


def to_run(data_set: Path, out: Path) -> str:
    """Writes the episodes of a data set as a run folder; returns a sentence about it.

    It has rows, and no summary: who decided in it is no policy of one seed, so it is no finished
    run that could be compared. Losses have the 32 bits of observations.

    Args:
        data_set: That `tiegym minari` made.
        out: The folder; it must be empty, or not there.

    Raises:
        InputError: If the data set can't be read.
        OSError: If the folder holds something, or can't be written.
    """
    found = read_data_set(data_set)
    claim(out)
    config = {"format": FORMAT, "program": "minari", "protocol": "none", "options": {}}
    config |= {"env": found.env, "corpus_sha256": found.corpus_sha256}
    config["seeds"] = [one.seed for one in found.episodes]  # which a summary would have
    write_json(out / "config.json", config)
    with open_to_write(out / "steps.jsonl") as file:
        for number, one in enumerate(found.episodes):
            for row in _rows(one, config_of(found.env).max_iters):
                append_line(file, {"episode": number, **row})
    return f"run folder: {out}, {len(found.episodes)} episodes"


def _rows(one: Trajectory, max_iters: int) -> list[dict[str, Any]]:
    """The rows of an episode: what each step led to."""
    seen, rows = one.observations, []
    for step, action in enumerate(one.actions, start=1):
        train_loss, val_loss = seen["loss"][step].tolist()
        row = {
            "step": step,
            "iteration": round(float(seen["budget"][step, 0]) * max_iters),
            "action": plain(action),
            "reward": float(one.rewards[step - 1]),
            "terminated": step == len(one.actions),
            "truncated": False,
            "ties": seen["ties"][step].tolist(),
            "train_loss": train_loss,
            "val_loss": val_loss,
            "perplexity": math.exp(val_loss),
        }
        if "frozen" in seen:
            row["frozen"] = (seen["frozen"][step] > 0).tolist()
        rows.append(row)
    return rows
