"""Copies of a training run: snapshots, forks and checkpoints of an environment.

What belongs to a copy is in `tiegym.episode` and `tiegym.training.trainer`; the files are in
`tiegym.transformer.model_file`.
"""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, Self

import gymnasium
import numpy as np
import torch

from tiegym.config import TieConfig
from tiegym.episode import Episode, Snapshot, check_same
from tiegym.training.entry import entry
from tiegym.training.resolve import resolved_config
from tiegym.training.trainer import Trainer
from tiegym.transformer import model_file


class Copies(gymnasium.Env[Any, Any]):
    """What of a `TieEnv` copies it."""

    config: TieConfig
    _trainer: Trainer
    _episode: Episode | None

    @entry
    def snapshot(self) -> Snapshot:
        """A copy of the episode as it stands; costs one copy of the model state."""
        tensors = {name: tensor.clone() for name, tensor in self._tensors().items()}
        return Snapshot(tensors, self._values())

    @entry
    def restore(self, snapshot: Snapshot) -> None:
        """Goes back, in place, to where a snapshot of the same configuration was taken.

        The snapshot stays valid: it can be restored any number of times.
        """
        values = copy.deepcopy(snapshot.values)
        self.np_random.bit_generator.state = values["np_random"]
        self._episode = Episode(**values["episode"]) if values["episode"] else None
        if self._episode is not None and self._episode.started:
            ties = np.array(self._episode.ties, dtype=np.int64)
            self._trainer.load_state(ties, snapshot.tensors)

    @entry
    def fork(self) -> Self:
        """An independent environment that goes on from here; copies the model state once."""
        twin = copy.copy(self)
        twin._trainer = self._trainer.fork()
        twin._episode = copy.deepcopy(self._episode)
        twin.np_random = copy.deepcopy(self.np_random)
        twin.action_space = copy.deepcopy(self.action_space)
        twin.observation_space = copy.deepcopy(self.observation_space)
        return twin

    @entry
    def save_checkpoint(self, path: str | Path) -> None:
        """Writes the episode as it stands to one file, whole or not at all."""
        values = self._values() | {"config": resolved_config(self.config, self._trainer.device)}
        model_file.write_tensors(path, "checkpoint", self._tensors(), values)

    @entry
    def load_checkpoint(self, path: str | Path) -> None:
        """Goes on from a checkpoint of the same configuration on a device of the same type.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, of another kind, of another configuration, or of another
                type of device, whose random streams this one doesn't have.
        """
        tensors, values = model_file.read_tensors(path, "checkpoint")
        mine = model_file.as_json(resolved_config(self.config, self._trainer.device))
        check_same(f"{path} is a checkpoint", values.pop("config"), mine)
        self.restore(Snapshot(tensors, values))

    def _known_episode(self) -> Episode:
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("call env.reset() first: there is no episode yet")
        return self._episode

    def _tensors(self) -> dict[str, torch.Tensor]:
        started = self._episode is not None and self._episode.started
        return self._trainer.state() if started else {}

    def _values(self) -> dict[str, Any]:
        values = {
            "np_random": self.np_random.bit_generator.state,
            "episode": dataclasses.asdict(self._episode) if self._episode else None,
        }
        return copy.deepcopy(values)
