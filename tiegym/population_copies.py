"""Copies of a population: snapshots of its members, and checkpoints of all of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from tiegym.config import TieConfig
from tiegym.data.tasks.task import Task
from tiegym.episode import Episode, Snapshot, check_same, read_episode
from tiegym.training.entry import entry
from tiegym.training.population import Population
from tiegym.training.state import check_state
from tiegym.training.workload import resolved_config
from tiegym.transformer.tensor_file import as_json, read_tensors, write_tensors


class PopulationCopies(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """What of a `TiePopulation` copies it."""

    config: TieConfig
    task: Task
    mode: AutoresetMode
    _population: Population
    _episodes: list[Episode]
    _streams: list[np.random.Generator | None]

    @entry
    def snapshot(self, member: int) -> Snapshot:
        """A copy of a member's episode as it stands, from which `TieEnv.restore` goes on.

        Args:
            member: Its number.

        Raises:
            ValueError: If there is no such member.
        """
        if not isinstance(member, int | np.integer) or not 0 <= member < self.num_envs:
            raise ValueError(f"member={member!r} must be from 0 to {self.num_envs - 1}")
        episode = self._known_episodes()[member]
        tensors = self._population.state(member) if episode.started else {}
        stream = self._streams[member]
        assert stream is not None
        values = {
            "config": self._configuration(),
            "np_random": stream.bit_generator.state,
            "episode": dataclasses.asdict(episode),
            "optimizer": None,
        }
        return Snapshot(tensors, values)

    @entry
    def save_checkpoint(self, path: str | Path) -> None:
        """Writes everything that the future of all members depends on as one safetensors file."""
        tensors: dict[str, torch.Tensor] = {}
        values = []
        for n in range(self.num_envs):
            snapshot = self.snapshot(n)
            tensors |= {f"{n}.{name}": tensor for name, tensor in snapshot.tensors.items()}
            values.append({key: snapshot.values[key] for key in ("np_random", "episode")})
        known = {"config": self._configuration(), "mode": self.mode.value, "members": values}
        write_tensors(Path(path), "population", tensors, known)

    @entry
    def load_checkpoint(self, path: str | Path) -> None:
        """Goes on, in place, from where `save_checkpoint` wrote a file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or of another configuration, text, number of members or
                autoreset mode. The environment is then as it was.
        """
        what = f"{path} is a checkpoint of a population"
        tensors, values = read_tensors(
            path, "population", lambda values, empty: self._check(empty, values, what)
        )
        self._episodes = self._check(tensors, values, what)
        for n, (episode, own) in enumerate(zip(self._episodes, values["members"], strict=True)):
            stream = np.random.Generator(np.random.PCG64())
            stream.bit_generator.state = own["np_random"]
            self._streams[n] = stream
            if episode.started:
                of_member = _of_member(tensors, n)
                ties = np.array(episode.ties, dtype=np.int64)
                self._population.load_state(n, ties, of_member, episode.frozen)

    def _check(self, tensors: dict[str, torch.Tensor], values: Any, what: str) -> list[Episode]:
        """The episodes of a checkpoint that fits; changes nothing."""
        damaged = f"{what} that is damaged: "
        if not isinstance(values, dict) or not isinstance(values.get("config"), dict):
            raise ValueError(f"{damaged}it has no configuration")
        check_same(what, values["config"], self._configuration())
        members = values.get("members")
        if values.get("mode") != self.mode.value or not isinstance(members, list):
            raise ValueError(f"{what} of autoreset mode {values.get('mode')!r}, not {self.mode}")
        if len(members) != self.num_envs:
            raise ValueError(f"{what} of {len(members)} members, but there are {self.num_envs}")
        try:
            episodes = [read_episode(own["episode"], self.config) for own in members]
            for n, (episode, own) in enumerate(zip(episodes, members, strict=True)):
                np.random.PCG64().state = own["np_random"]
                if episode.started:
                    ties = np.array(episode.ties, dtype=np.int64)
                    of_member = _of_member(tensors, n)
                    check_state(self._population.single, ties, of_member, episode.frozen)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{damaged}{error}") from error
        return episodes

    def _configuration(self) -> dict[str, Any]:
        found = resolved_config(self._population.single.workload)
        configuration: dict[str, Any] = as_json(found)
        return configuration

    def _known_episodes(self) -> list[Episode]:
        if not self._episodes:
            raise gymnasium.error.ResetNeeded("call reset() first: there is no episode yet")
        return self._episodes


def _of_member(tensors: dict[str, torch.Tensor], member: int) -> dict[str, torch.Tensor]:
    prefix = f"{member}."
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
