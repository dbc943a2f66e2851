"""Copies of a training run: snapshots, forks and checkpoints of an environment.

What belongs to a copy is in `tiegym.episode` and `tiegym.training.trainer`; the files are in
`tiegym.transformer.model_file`.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import gymnasium
import numpy as np
import torch

from tiegym.config import TieConfig, default_arguments
from tiegym.data.tasks.images import standardisation
from tiegym.episode import Episode, Snapshot, check_same, read_episode, read_hyperparameters
from tiegym.training.entry import entry
from tiegym.training.state import check_state
from tiegym.training.trainer import Trainer
from tiegym.training.workload import resolved_config
from tiegym.transformer import model_file
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.library_folder import export_folder
from tiegym.transformer.pretrained import TiedPretrainedModel
from tiegym.transformer.tensor_file import as_json, read_tensors, write_tensors

_ALSO_PICKLED = ("action_space", "_spec", "step_stats", "depths")


class Copies(gymnasium.Env[Any, Any]):
    """What of a `TieEnv` copies it."""

    config: TieConfig
    depths: Sequence[int] | None
    _trainer: Trainer
    _started_trainer: Callable[[], Trainer]
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

        Raises:
            TypeError: If it is no snapshot.
            ValueError: If the snapshot is of another configuration, text, tokenizer, pretrained
                model or type of device. The environment is then as it was.
        """
        if not isinstance(snapshot, Snapshot):
            raise TypeError(f"restore takes what snapshot() returned, and not {snapshot!r:.80}")
        self._take_over(snapshot, "this is a snapshot")

    @entry
    def fork(self) -> Self:
        """An independent environment that goes on from here; copies the model state once.

        `copy.copy` and `copy.deepcopy` of this environment do the same. (Of an environment in
        wrappers use `copy.deepcopy`: `copy.copy` copies the outermost wrapper alone.)
        """
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin.depths = copy.copy(self.depths)
        twin._trainer = self._trainer.fork()
        twin._episode = copy.deepcopy(self._episode)
        twin.np_random = copy.deepcopy(self.np_random)
        twin.action_space = copy.deepcopy(self.action_space)
        twin.observation_space = copy.deepcopy(self.observation_space)
        return twin

    def __copy__(self) -> Self:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.fork()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles arguments and state; the text is read anew, and must be the same."""
        arguments = dataclasses.asdict(self.config) | {"render_mode": self.render_mode}
        copied = self.snapshot()
        tensors = {name: tensor.cpu() for name, tensor in copied.tensors.items()}
        others = {name: getattr(self, name) for name in _ALSO_PICKLED}
        return _unpickled, (type(self), arguments, Snapshot(tensors, copied.values), others)

    @entry
    def save_checkpoint(self, path: str | Path) -> None:
        """Writes the episode as it stands to one file, whole or not at all."""
        write_tensors(path, "checkpoint", self._tensors(), self._values())

    @entry
    def export(self, path: str | Path, to: Literal["tiegym", "hf"] = "tiegym") -> None:
        """Writes the model for use without the environment.

        Args:
            path: Where to.
            to: "tiegym" is one safetensors file, each weight once, for `tiegym.load_model`. "hf" is
                a folder that the library `transformers` loads, with a copy for each tied layer.

        Raises:
            FileExistsError: If the folder holds something.
            ValueError: If `to` is something else.
        """
        model, task = self._started_trainer().model, self._trainer.workload.task
        assert isinstance(model, TiedTransformer | TiedPretrainedModel)  # there are no others
        if to == "tiegym":
            model_file.export_model(path, model, task.tokenizer, standardisation(task))
        elif to == "hf":
            export_folder(model, task.tokenizer, path, standardisation(task))
        else:
            raise ValueError(f"to={to!r} is unknown: choose tiegym (one file) or hf (a folder)")

    @entry
    def load_checkpoint(self, path: str | Path) -> None:
        """Goes on from a checkpoint of the same configuration on a device of the same type.

        A pretrained model must be the one that it was: the next episode begins with it again.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, of another kind, of another configuration, text,
                tokenizer or pretrained model, or of another type of device, whose random streams
                this one doesn't have. The environment is then as it was.
        """
        what = f"{path} is a checkpoint"
        tensors, values = read_tensors(
            path, "checkpoint", lambda values, empty: self._check(Snapshot(empty, values), what)
        )
        self._take_over(Snapshot(tensors, values), what)

    def _take_over(self, snapshot: Snapshot, what: str) -> None:
        """Checks everything, then goes on from a copy."""
        episode, hyperparameters = self._check(snapshot, what)
        self.np_random.bit_generator.state = copy.deepcopy(snapshot.values["np_random"])
        self._episode = episode
        if episode is not None and episode.started:
            ties = np.array(episode.ties, dtype=np.int64)
            self._trainer.load_state(ties, snapshot.tensors, episode.frozen)
            self._trainer.hyperparameters = self._trainer.optimizer.defaults | hyperparameters

    def _check(self, snapshot: Snapshot, what: str) -> tuple[Episode | None, dict[str, Any]]:
        """The episode and the optimiser's values of a snapshot that fits; changes nothing."""
        values = copy.deepcopy(snapshot.values)
        damaged = f"{what} that is damaged: "
        if not isinstance(values, dict) or not isinstance(values.get("config"), dict):
            raise ValueError(f"{damaged}it has no configuration")
        mine = self._configuration()
        hashes = {name: mine[name] for name in mine if name.endswith("_sha256")}
        unsaid = as_json(default_arguments()) | hashes  # 0.1 had fewer arguments and no hashes
        check_same(what, unsaid | values["config"], mine)
        scratch = copy.deepcopy(self.np_random)
        try:
            scratch.bit_generator.state = values["np_random"]
            episode = read_episode(values["episode"], self.config) if values["episode"] else None
            hyperparameters = read_hyperparameters(values.get("optimizer"))
            if episode is not None and episode.started:
                ties = np.array(episode.ties, dtype=np.int64)
                check_state(self._trainer, ties, snapshot.tensors, episode.frozen)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{damaged}{error}") from error
        return episode, hyperparameters

    def _configuration(self) -> dict[str, Any]:
        """What a copy and the environment that goes on from it have in common, as JSON has it."""
        configuration: dict[str, Any] = as_json(resolved_config(self._trainer.workload))
        return configuration

    def _tensors(self) -> dict[str, torch.Tensor]:
        started = self._episode is not None and self._episode.started
        return self._trainer.state() if started else {}

    def _values(self) -> dict[str, Any]:
        started = self._episode is not None and self._episode.started
        values = {
            "config": self._configuration(),
            "np_random": self.np_random.bit_generator.state,
            "episode": dataclasses.asdict(self._episode) if self._episode else None,
            "optimizer": self._trainer.hyperparameters if started else None,
        }
        return copy.deepcopy(values)


def _unpickled(
    kind: type[Copies], arguments: dict[str, Any], snapshot: Snapshot, others: dict[str, Any]
) -> Copies:
    env = kind(**arguments)
    env.restore(snapshot)
    env.__dict__.update(others)
    return env
