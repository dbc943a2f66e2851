"""How environments are made: specs of plain values, and what becomes of members that have ended."""

from __future__ import annotations

import copy
import os
from typing import Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from tiegym.config import TieConfig

MODES = {mode.name: mode for mode in (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)}
"""Those that there are here; gymnasium has a third, by which callers reset members themselves."""


def parse_mode(value: AutoresetMode | str) -> AutoresetMode:
    """The mode that a caller means: one of gymnasium's, its name or its value.

    Raises:
        ValueError: If it is none of `MODES`.

    Examples:
        >>> parse_mode("SAME_STEP") is parse_mode("SameStep") is AutoresetMode.SAME_STEP
        True
    """
    for name, mode in MODES.items():
        if value in (mode, name, mode.value):
            return mode
    raise ValueError(f"autoreset_mode={value!r}: choose {' or '.join(MODES)}")


def parse_members(value: Any) -> int:
    """The number of members that a caller means.

    Raises:
        ValueError: If it is no whole number, or there are none.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"num_envs={value!r} must be a number of members, at least 1")
    return int(value)


class PlainSpec:
    """An environment whose spec holds plain values, whatever it was made with.

    The arguments may have been NumPy's scalars, paths, modes and so on.
    """

    config: TieConfig
    """Has the arguments that are its fields as plain values."""
    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """How gymnasium made it; `spec.to_json()` rebuilds it elsewhere."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None:
            spec = copy.deepcopy(spec)
            spec.kwargs = {k: _plain(getattr(self.config, k, v)) for k, v in spec.kwargs.items()}
        self._spec = spec


def _plain(value: Any) -> Any:
    if isinstance(value, AutoresetMode):
        return value.value
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value
