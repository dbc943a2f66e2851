"""Agents in files that hold numbers alone: nothing that is read here can run code.

A run folder gets the agent twice. `agent.safetensors` has its weights and those of its optimiser;
the program's own `make_model` makes all else anew. `agent.zip` is the archive of
Stable-Baselines3, for its `load`, which unpickles: nothing of tiegym calls that.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from tiegym.atomic_write import replacing
from tiegym.runs.input_errors import InputError
from tiegym.transformer.tensor_file import read_tensors, tensors_sha256, write_tensors

AGENT_FILE = "agent.safetensors"
"""The agent in a run folder."""

_OPTIMISER = "optimiser."

_COUNTS = ("num_timesteps", "spent_iterations", "table_steps", "left_out_episodes")
"""Values that are counted with, where a file has them."""


def save_agent(model: BaseAlgorithm, folder: Path, **values: Any) -> None:
    """Writes an agent into a run folder: `AGENT_FILE`, and `agent.zip` for Stable-Baselines3.

    Both are on the disk when this returns, whatever happens to the power then.

    Args:
        model: The agent.
        folder: Of the run.
        **values: What else to keep with it; anything that JSON holds.
    """
    with replacing(folder / "agent.zip") as temporary, temporary.open("wb") as file:
        model.save(file)
    optimiser = model.policy.optimizer.state_dict()["state"]
    tensors = {
        # A network that two others share is there under both names.
        **{name: weights.clone() for name, weights in model.policy.state_dict().items()},
        **{
            f"{_OPTIMISER}{parameter}.{name}": torch.as_tensor(value).clone()
            for parameter, state in optimiser.items()
            for name, value in state.items()
        },
    }
    known = {"algorithm": type(model).__name__, "num_timesteps": model.num_timesteps}
    write_tensors(folder / AGENT_FILE, "agent", tensors, {**known, **values})


@dataclass(frozen=True)
class SavedAgent:
    """An agent as it was read from a file.

    Attributes:
        path: Where it was.
        weights: Of its policy, by name.
        optimiser: By parameter and name; none from an agent.zip.
        values: What was kept with it; none from an agent.zip.
    """

    path: Path
    weights: dict[str, Tensor]
    optimiser: dict[int, dict[str, Tensor]]
    values: dict[str, Any]

    @property
    def sha256(self) -> str:
        """Of its weights, by which it decides: the same agent has it in whatever file it is."""
        return tensors_sha256(self.weights)

    def count(self, name: str) -> int:
        """One of `_COUNTS`; 0 where the file doesn't say it."""
        return int(self.values.get(name, 0))

    def give_to(self, model: BaseAlgorithm) -> None:
        """Gives an untrained agent, as the program's `make_model` makes it, what this one learnt.

        Raises:
            InputError: If it is of another kind, or its networks are of other sizes.
        """
        kind = self.values.get("algorithm", type(model).__name__)
        try:
            if kind != type(model).__name__:
                raise ValueError(f"it is of {kind!r}, and not of {type(model).__name__}")
            model.policy.load_state_dict(self.weights)
            optimiser = model.policy.optimizer
            optimiser.load_state_dict({**optimiser.state_dict(), "state": self.optimiser})
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"{self.path} holds no agent that can decide here: {error}") from error
        model.num_timesteps = self.count("num_timesteps")


def read_agent(path: Path) -> SavedAgent:
    """Reads an agent.

    Args:
        path: What `save_agent` wrote, or the agent.zip of tiegym 0.1, of which the weights alone
            are taken: PyTorch's restricted reader takes tensors, and nothing that could run.

    Raises:
        InputError: If there is no such file, or it is damaged.
    """
    try:
        if path.suffix == ".zip":
            return SavedAgent(path, _weights_of_archive(path), {}, {})
        tensors, values = read_tensors(path, "agent")
        _check_values(values)
        optimiser: dict[int, dict[str, Tensor]] = {}
        for key in [name for name in tensors if name.startswith(_OPTIMISER)]:
            parameter, name = _place(key)
            optimiser.setdefault(parameter, {})[name] = tensors.pop(key)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} holds no agent: {error}") from error
    return SavedAgent(path, tensors, optimiser, values)


def _check_values(values: Any) -> None:
    """Checks what a file says of its agent.

    Raises:
        ValueError: If something has the wrong type.
    """
    if not isinstance(values, dict):
        raise ValueError(f"its values are {values!r:.80}, and must be an object")
    for name in _COUNTS:
        value = values.get(name, 0)
        if type(value) is not int or not 0 <= value < 2**63:
            raise ValueError(f"its {name} is {value!r:.80}, and must be an integer, 0 or more")
    if not isinstance(values.get("algorithm", ""), str):
        raise ValueError(f"its algorithm is {values['algorithm']!r:.80}, and must be text")


def _place(key: str) -> tuple[int, str]:
    """Of which parameter a tensor of the optimiser is, and what it is.

    Raises:
        ValueError: If its name doesn't say it.
    """
    parameter, _, name = key.removeprefix(_OPTIMISER).partition(".")
    if not re.fullmatch(r"[0-9]{1,9}", parameter) or not name:
        raise ValueError(f"it has a tensor {key!r:.80}, which is of no parameter")
    return int(parameter), name


def _weights_of_archive(path: Path) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("policy.pth") as file:
            weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is no archive of Stable-Baselines3 ({error})") from error
    except Exception as error:  # whatever the restricted unpickler says of what it refuses
        raise ValueError(f"its weights can't be read: {error!r:.200}") from error
    if not isinstance(weights, dict) or not all(isinstance(w, Tensor) for w in weights.values()):
        raise ValueError("its weights are no tensors by name")
    return weights
