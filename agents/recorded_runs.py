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
from tiegym.offline.trajectories import Trajectories, check_same, join
from tiegym.runs.input_errors import InputError
from tiegym.runs.messages import complain
from tiegym.training.load import load_data


def read_runs(paths: Sequence[str], env: TieConfig, layer_stats: bool) -> Trajectories:
    """The trajectories of recorded runs, all of the environment in which an agent is to act.

    Args:
        paths: Run folders, folders that hold some, or data sets.
        env: That environment; its text is read.
        layer_stats: Whether the agent sees these.

    Raises:
        InputError: If they can't be read, are of another environment or text, or have no
            layer_stats and the agent is to see them.
    """
    try:
        data = load_data(env)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    if not isinstance(data, Corpus):
        raise InputError(f"model={env.model!r}: an agent can learn offline from runs of gpt alone")
    found = []
    for path in map(Path, paths):
        if is_data_set(path):
            found.append(read_data_set(path))
            continue
        try:
            runs = find_runs([path], complain)
        except (OSError, ValueError) as error:
            raise InputError(str(error)) from error
        found += [trajectories_of(run, math.log(data.vocab_size)) for run in runs]
    for each in found:
        check_same(each, dataclasses.asdict(env), data.sha256)
    joined = join(found)
    if layer_stats and "layer_stats" not in joined.episodes[0].observations:
        raise InputError(
            "what runs record has no layer_stats: let the agent decide without them, by "
            "--no-layer-stats"
        )
    return joined
