"""The recorded runs that an agent learns from offline: run folders and Minari data sets."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

from tiegym.analysis.find import find_runs
from tiegym.config import TieConfig
from tiegym.data.corpora import Corpus
from tiegym.offline.minari_data import is_data_set, read_data_set
from tiegym.offline.recorded import trajectories_of
from tiegym.offline.trajectories import Trajectories, Trajectory, check_same, join
from tiegym.runs.folder import Run
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.messages import complain
from tiegym.training.load import load_data


def read_runs(
    paths: Sequence[str], env: TieConfig, layer_stats: bool, leave_out: int
) -> tuple[Trajectories, int]:
    """The trajectories of recorded runs, all of the environment in which an agent is to act.

    Args:
        paths: Run folders, folders that hold some, or data sets.
        env: That environment; its text is read.
        layer_stats: Whether the agent sees these.
        leave_out: The seed of the run in which it is to act: what was recorded of that is left
            out, and is none of the iterations that the trajectories took.

    Returns:
        The trajectories, and how many episodes were left out.

    Raises:
        InputError: If they can't be read, are of another environment or text, or have no
            layer_stats and the agent is to see them; or if all of them are left out.
    """
    with as_input_errors():
        data = load_data(env)
    if not isinstance(data, Corpus):
        raise InputError(f"model={env.model!r}: an agent can learn offline from runs of gpt alone")
    found, left_out = [], 0
    for path in map(Path, paths):
        if is_data_set(path):
            found.append(read_data_set(path))
            continue
        with as_input_errors():
            runs = find_runs([path], complain)
        for run in runs:
            whole = trajectories_of(run, math.log(data.vocab_size))
            if _seed_of(run) == leave_out:
                left_out += len(whole.episodes)
            else:
                found.append(whole)
    for each in found:
        check_same(each, dataclasses.asdict(env), data.sha256)
    others = [without_seed(each, leave_out, env.max_iters) for each in found]
    left_out += sum(len(each.episodes) for each in found)
    left_out -= sum(len(each.episodes) for each in others)
    others = [each for each in others if each.episodes]
    if not others:
        raise InputError(
            f"runs={[*paths]!r}: all {left_out} episodes are of seed={leave_out}, in the run of "
            "which the agent is to act: give runs of other seeds, or another --seed"
        )
    joined = join(others)
    if layer_stats and "layer_stats" not in joined.episodes[0].observations:
        raise InputError(
            "what runs record has no layer_stats: let the agent decide without them, by "
            "--no-layer-stats"
        )
    return joined, left_out


def _seed_of(run: Run) -> int | None:
    """The seed that its program got. Without a program each episode says its own, if it has one."""
    seed: int | None = (run.config.get("options") or {}).get("seed")
    return seed


def without_seed(found: Trajectories, seed: int, max_iters: int) -> Trajectories:
    """The trajectories but for those of a seed; there may be none left.

    An episode of which no seed is known goes on with the stream of the one before it, and is of
    the same run.

    Args:
        found: The trajectories.
        seed: Of what is left out.
        max_iters: Training iterations of an episode.
    """
    kept: list[Trajectory] = []
    iterations, own = found.iterations, False
    for episode in found.episodes:
        own = episode.seed == seed if episode.seed is not None else own
        if own:
            budget = float(episode.observations["budget"][-1, 0])
            iterations -= round(budget * max_iters)
        else:
            kept.append(episode)
    return dataclasses.replace(found, episodes=tuple(kept), iterations=max(0, iterations))
