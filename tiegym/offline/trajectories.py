"""Trajectories: what was seen and decided in episodes of one environment; where they come from.

Run folders are read by `tiegym.offline.recorded`, Minari data sets by `tiegym.offline.minari_data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tiegym.config import TieConfig, default_arguments
from tiegym.runs.input_errors import InputError
from tiegym.spaces import make_action_space, make_observation_space

OF_SPACES = (
    *("n_layer", "action", "choices", "tie_parts", "features", "initial_ties"),
    *("iters_per_step", "max_iters", "divergence_loss"),
)
"""The arguments of TieEnv that its spaces, and the course of its cursor and budget, come from."""


@dataclass(frozen=True)
class Trajectory:
    """A whole episode of T steps.

    Attributes:
        observations: By their names, (T + 1, ...) each; without layer_stats where no record has
            them.
        actions: (T, ...).
        rewards: As they were recorded, (T,).
        seed: Of the reset that began it; None if that isn't known.
    """

    observations: dict[str, npt.NDArray[Any]]
    actions: npt.NDArray[Any]
    rewards: npt.NDArray[np.float64]
    seed: int | None = None


@dataclass(frozen=True)
class Trajectories:
    """Episodes of one environment.

    Attributes:
        env: All arguments of the TieEnv, as a run records them.
        corpus_sha256: Of its text.
        episodes: At least one.
        iterations: Training iterations that they took.
    """

    env: dict[str, Any]
    corpus_sha256: str | None
    episodes: tuple[Trajectory, ...]
    iterations: int

    @property
    def spaces(self) -> tuple[spaces.Dict, spaces.Space[Any]]:
        """Of observations, with layer_stats only if the episodes have them, and of actions."""
        config = config_of(self.env)
        entries = make_observation_space(config).spaces
        present = self.episodes[0].observations
        seen = {name: space for name, space in entries.items() if name in present}
        return spaces.Dict(seen), make_action_space(config)


def config_of(env: Mapping[str, Any]) -> TieConfig:
    """A configuration with the spaces of a recorded one, and no path or name of that.

    Raises:
        InputError: If the values can't be.
    """
    given = {name: env[name] for name in OF_SPACES if name in env}
    if isinstance(given.get("initial_ties"), list):
        given["initial_ties"] = tuple(given["initial_ties"])
    try:
        return TieConfig(**given)
    except (TypeError, ValueError) as error:
        raise InputError(f"no TieEnv has such arguments: {error}") from error


def join(parts: list[Trajectories]) -> Trajectories:
    """All episodes of several, which must be of the same environment.

    Raises:
        InputError: If they aren't, or some have layer_stats and others don't.
    """
    first = parts[0]
    for other in parts[1:]:
        check_same(other, first.env, first.corpus_sha256)
        if other.spaces != first.spaces:
            raise InputError("some trajectories have layer_stats and others have none: take one")
    episodes = tuple(episode for part in parts for episode in part.episodes)
    iterations = sum(part.iterations for part in parts)
    return Trajectories(first.env, first.corpus_sha256, episodes, iterations)


FREE = (
    *("reward", "param_cost", "corpus", "device", "compile", "loss_chunk"),
    *("checkpoint_activations", "test_tokens"),
)
"""Arguments that may differ: they change neither what is trained nor what is seen of it. The text
itself may not; its name may."""


def check_same(found: Trajectories, env: Mapping[str, Any], corpus_sha256: str | None) -> None:
    """Checks that trajectories are of an environment.

    Args:
        found: The trajectories.
        env: All arguments of the environment.
        corpus_sha256: Of its text.

    Raises:
        InputError: If not, naming what differs.
    """
    usual = default_arguments()
    for name in usual.keys() - set(FREE):
        theirs, ours = (_plain(e.get(name, usual[name])) for e in (found.env, env))
        if theirs != ours:
            raise InputError(
                f"the trajectories are of {name}={theirs!r}, and not of {ours!r}: take others, or "
                f"give --env.{name.replace('_', '-')}"
            )
    if found.corpus_sha256 != corpus_sha256:
        raise InputError(
            f"the trajectories are of a text with sha256 {found.corpus_sha256}, and not of "
            f"{corpus_sha256}"
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
