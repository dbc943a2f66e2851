"""Minari data sets: trajectories are written by Minari, and read without it, checked.

A data set is a folder that holds `data/`, with `metadata.json` and `main_data.hdf5`. Minari makes
the environment that the metadata names where spaces are missing there, which runs whatever its
author likes. So nothing here hands it a data set of others: the JSON is read as text, the arrays as
numbers of known shapes, and what a data set says of an environment is checked and never made.
"""

from __future__ import annotations

import copy
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from tiegym import __version__
from tiegym.offline.trajectories import Trajectories, Trajectory, config_of
from tiegym.runs.input_errors import DamagedFile, InputError
from tiegym.runs.json_files import plain, read_json
from tiegym.runs.regular_files import open_to_read
from tiegym.spaces import make_action_space, make_observation_space

DATA, ARRAYS, FACTS = "data", "main_data.hdf5", "metadata.json"

OURS = "tiegym"
"""Entry of the metadata: what Minari has no name for."""

MAX_BYTES = 2**30
"""Of all arrays together: far more than runs have, far less than memory holds."""


def write_data_set(found: Trajectories, out: Path, made_by: str) -> None:
    """Writes a Minari data set; with `MINARI_DATASETS_PATH` its parent, Minari finds it by name.

    Args:
        found: The trajectories.
        out: The folder, which mustn't be there; its name ends in -vN.
        made_by: What decided in them, for the metadata.

    Raises:
        InputError: If Minari isn't installed, the folder is there, or has another name.
        OSError: If it can't be written.
    """
    try:
        from minari.data_collector.episode_buffer import EpisodeBuffer
        from minari.dataset.minari_storage import MinariStorage
    except ImportError as error:
        raise InputError(
            f"Minari data sets need the package minari ({error}): pip install 'tiegym[minari]'"
        ) from error
    if not re.fullmatch(r"[-_\w]+-v\d+", out.name, re.ASCII):
        raise InputError(f"--out {out} must end in a version, such as {out.name or 'runs'}-v0")
    if out.exists():
        raise InputError(f"--out {out} is there already: choose another name, or remove it first")
    out.mkdir(parents=True)
    try:
        observed, acted = found.spaces
        # A copy: the registry's own is what gymnasium.make goes by.
        spec = copy.copy(gymnasium.spec("TieEnv-v0"))
        spec.kwargs = plain(found.env)
        # Absolute: Minari measures the size of a data set at a wrong place else.
        place = out.absolute() / DATA
        storage = MinariStorage.new(place, observed, acted, spec, "hdf5")
        storage.update_episodes(
            EpisodeBuffer(
                seed=one.seed,
                observations=one.observations,
                actions=one.actions,
                rewards=one.rewards,
                terminations=[*([False] * (len(one.actions) - 1)), True],
                truncations=[False] * len(one.actions),
                infos={},
            )
            for one in found.episodes
        )
        storage.update_metadata(
            {
                "dataset_id": out.name,
                "minari_version": _minari_version(),
                "algorithm_name": made_by,
                "description": f"Decisions of a TieEnv, by tiegym {__version__}",
                OURS: {
                    "env": plain(found.env),
                    "corpus_sha256": found.corpus_sha256,
                    "iterations": found.iterations,
                },
            }
        )
    except BaseException:
        shutil.rmtree(out)
        raise


def _minari_version() -> str:
    from importlib.metadata import version

    return version("minari")


def is_data_set(path: Path) -> bool:
    """Whether a folder is a Minari data set."""
    return (path / DATA / FACTS).is_file()


def read_data_set(path: Path) -> Trajectories:
    """Reads what `write_data_set` wrote, whoever wrote it; needs h5py and no Minari.

    Args:
        path: Of the data set.

    Raises:
        InputError: If it is none of TieEnv's, is damaged, or h5py isn't installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise InputError(
            f"Minari data sets need the package h5py ({error}): pip install 'tiegym[minari]'"
        ) from error
    if not is_data_set(path):
        raise InputError(f"{path} is no Minari data set: it has no {DATA}/{FACTS}")
    for part in (path / DATA, path / DATA / FACTS, path / DATA / ARRAYS):
        if part.is_symlink() or not part.exists():
            raise DamagedFile(f"{part} is a link, or isn't there: a data set has it itself")
    facts = read_json(path / DATA / FACTS)
    if facts.get("data_format") != "hdf5":
        raise InputError(f"{path} has the format {facts.get('data_format')!r}: tiegym reads hdf5")
    about, count = facts.get(OURS), facts.get("total_episodes")
    if not isinstance(about, dict) or not isinstance(about.get("env"), dict):
        raise InputError(f"{path} isn't of `tiegym minari`: its metadata has no {OURS}")
    if type(count) is not int or not 0 < count < 2**31:
        raise DamagedFile(f"{path / DATA / FACTS} is damaged: total_episodes is {count!r}")
    config = config_of(about["env"])
    entries = dict(make_observation_space(config).spaces)
    acted = make_action_space(config)
    try:
        with open_to_read(path / DATA / ARRAYS) as raw, h5py.File(raw, "r") as file:
            names = _child(file, "episode_0/observations", h5py.Group).keys()
            optional = {name for name in ("layer_stats",) if name not in names}
            observed = {name: s for name, s in entries.items() if name not in optional}
            reader = _Reader(h5py, config.steps_per_episode)
            episodes = [
                reader.episode(_child(file, f"episode_{k}", h5py.Group), observed, acted)
                for k in range(count)
            ]
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise DamagedFile(f"{path / DATA / ARRAYS} is damaged: {error}") from error
    sha256, iterations = about.get("corpus_sha256"), about.get("iterations", 0)
    if not isinstance(sha256, str | None) or type(iterations) is not int or iterations < 0:
        raise DamagedFile(f"{path / DATA / FACTS} is damaged: {OURS} holds {about!r:.200}")
    return Trajectories(about["env"], sha256, tuple(episodes), iterations)


def _child(group: Any, path: str, kind: type) -> Any:
    """What a group holds itself; no link leads to another file."""
    import h5py

    for name in path.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(
            group.get(name, getlink=True), h5py.HardLink
        ):
            raise ValueError(f"{name!r} is a link, or isn't there")
        group = group[name]
    if not isinstance(group, kind):
        raise ValueError(f"{path!r} is no {kind.__name__}")
    return group


class _Reader:
    """Reads episodes, and counts the bytes.

    Args:
        h5py: The package.
        longest: Steps of the longest episode.
    """

    def __init__(self, h5py: Any, longest: int) -> None:
        self.dataset, self.longest, self.left = h5py.Dataset, longest, MAX_BYTES

    def episode(
        self, group: Any, observed: Mapping[str, spaces.Space[Any]], acted: spaces.Space[Any]
    ) -> Trajectory:
        """One episode, which must have ended."""
        rewards = self.array(group, "rewards", None, ())
        length = len(rewards)
        ended = self.array(group, "terminations", length, ())
        if not 0 < length <= self.longest or not ended[-1] or ended[:-1].any():
            raise ValueError(f"an episode of {length} steps isn't one whole run")
        actions = _cast(self.array(group, "actions", length, acted.shape or ()), acted, "actions")
        observations = {}
        for name, space in observed.items():
            array = self.array(group, f"observations/{name}", length + 1, space.shape or ())
            observations[name] = _cast(array, space, f"an observation's {name}")
            if not all(space.contains(_entry(a)) for a in observations[name]):
                raise ValueError(f"an observation's {name} isn't in {space}")
        if not all(acted.contains(a) for a in actions):
            raise ValueError(f"an action isn't in {acted}")
        if not np.isfinite(rewards).all():
            raise ValueError("a reward isn't finite")
        seed = group.attrs.get("seed")
        seed = int(seed) if isinstance(seed, int | np.integer) and seed >= 0 else None
        return Trajectory(observations, actions, rewards.astype(np.float64), seed)

    def array(
        self, group: Any, name: str, length: int | None, shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        """An array of plain numbers that lies in the file itself."""
        data = _child(group, name, self.dataset)
        if data.is_virtual or data.external or data.dtype.kind not in "biuf":
            raise ValueError(f"{name} holds no numbers of its own")
        wanted = (data.shape[:1] if length is None else (length,)) + shape
        # A chunk is unpacked as a whole, and may be larger than what is in it.
        self.left -= max(data.nbytes, math.prod(data.chunks or ()) * data.dtype.itemsize)
        if data.shape != wanted or self.left < 0:
            raise ValueError(f"{name} has the shape {data.shape}, and must have {wanted}")
        values: npt.NDArray[Any] = data[()]
        return values


def _cast(array: npt.NDArray[Any], space: spaces.Space[Any], what: str) -> npt.NDArray[Any]:
    """An array in the type of its space; no whole number is made of anything else."""
    whole = np.dtype(space.dtype).kind in "iu"
    if not whole or array.dtype.kind != "f":
        cast = array.astype(space.dtype)
        if not whole or (cast == array).all():
            return cast
    raise ValueError(f"{what} must be whole numbers of {space}")


def _entry(value: Any) -> Any:
    """An entry of an array as a space has it: of integers a plain one."""
    return value.item() if np.ndim(value) == 0 else value
