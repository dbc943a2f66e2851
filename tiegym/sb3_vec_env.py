"""The adapter behind `tiegym.as_vec_env`; needs Stable-Baselines3.

An info is a dictionary for each member there, and an array for each key in Gymnasium. They are
turned over column by column, so that a step costs about a microsecond a member.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import VectorEnv
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)


class GymnasiumVecEnv(VecEnv):
    """See `tiegym.as_vec_env`.

    Args:
        vector_env: With autoreset mode SAME_STEP.
    """

    def __init__(self, vector_env: VectorEnv[Any, Any, Any]) -> None:
        self.vector_env: Any = vector_env
        self._everyone = np.arange(vector_env.num_envs)
        self._actions: npt.NDArray[Any] | None = None
        super().__init__(
            vector_env.num_envs,
            vector_env.single_observation_space,
            vector_env.single_action_space,
        )

    def reset(self) -> VecEnvObs:
        """Resets all members, with the seeds and the options that were set before.

        Raises:
            ValueError: If the members' options differ.
        """
        if any(options != self._options[0] for options in self._options):
            raise ValueError(
                f"options={self._options!r}: a vector environment has the same for all members"
            )
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        observations, infos = self.vector_env.reset(seed=seeds, options=self._options[0] or None)
        self.reset_infos = member_infos(infos, self._everyone)
        self._reset_seeds()
        self._reset_options()
        return observations  # type: ignore[no-any-return]

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keeps the actions until `step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Steps all members."""
        observations, rewards, terminated, truncated, infos = self.vector_env.step(self._actions)
        ended = np.flatnonzero(terminated | truncated)
        final = {key: infos.pop(key, None) for key in ("final_obs", "final_info")}
        for key in ("_final_obs", "_final_info"):
            infos.pop(key, None)
        rows = member_infos(infos, self._everyone)
        for row, out_of_time in zip(rows, (truncated & ~terminated).tolist(), strict=True):
            row["TimeLimit.truncated"] = out_of_time
        if len(ended):
            for k, last in zip(ended, member_infos(final["final_info"], ended), strict=True):
                last["TimeLimit.truncated"] = rows[k].pop("TimeLimit.truncated")
                for key in rows[k].keys() - self.reset_infos[k].keys() - last.keys():
                    last[key] = rows[k].pop(key)  # of a wrapper, at the end alone
                last["terminal_observation"] = final["final_obs"][k]
                self.reset_infos[k], rows[k] = rows[k], last
        # SB3's buffers hold float32, as the rewards of its own vector environments are.
        return observations, rewards.astype(np.float32), terminated | truncated, rows

    def close(self) -> None:
        """Closes the members."""
        self.vector_env.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of members, or of the vector environment that stands for them all.

        Raises:
            AttributeError: If there is none.
        """
        if hasattr(self.vector_env, "get_attr"):
            values = self.vector_env.get_attr(attr_name)
        else:
            values = [getattr(self.vector_env, attr_name)] * self.num_envs
        return [values[k] for k in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Sets an attribute of all members.

        Raises:
            ValueError: If some are chosen.
        """
        if len([*self._get_indices(indices)]) != self.num_envs:
            raise ValueError(f"indices={indices!r}: set_attr sets {attr_name} of all members")
        if hasattr(self.vector_env, "set_attr"):
            self.vector_env.set_attr(attr_name, [value] * self.num_envs)  # a list is dealt out
        else:
            setattr(self.vector_env, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """What a method of members returns; one of the vector environment returns a row for each.

        Raises:
            AttributeError: If there is none.
            ValueError: If some are chosen of members that are processes.
        """
        chosen = [*self._get_indices(indices)]
        if hasattr(self.vector_env, "envs"):
            of_each = [self.vector_env.envs[k].get_wrapper_attr(method_name) for k in chosen]
            return [method(*args, **kwargs) for method in of_each]
        if not hasattr(self.vector_env, "call"):
            rows = getattr(self.vector_env, method_name)(*args, **kwargs)
            return [rows[k] for k in chosen]
        if sorted(chosen) != [*range(self.num_envs)]:
            raise ValueError(
                f"indices={indices!r}: {method_name} is called of all processes, or of none"
            )
        values = self.vector_env.call(method_name, *args, **kwargs)
        return [values[k] for k in chosen]

    def env_is_wrapped(
        self,
        wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]],
        indices: VecEnvIndices = None,
    ) -> list[bool]:
        """Whether members are wrapped so; of arrays and processes that isn't known, and False."""
        members: Sequence[gymnasium.Env[Any, Any]] = getattr(self.vector_env, "envs", ())
        chosen = self._get_indices(indices)
        return [bool(members) and is_wrapped(members[k], wrapper_class) for k in chosen]


def member_infos(infos: dict[str, Any], members: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """The infos of single environments out of those of a vector environment.

    Args:
        infos: An array (N, ...) or another such dictionary for each key; `_key` says who has it.
        members: Which of them, (M,).
    """
    columns: dict[str, Any] = {}
    absent: list[tuple[str, npt.NDArray[np.bool_]]] = []
    for key, values in infos.items():
        if key.startswith("_") and key[1:] in infos:
            continue
        if isinstance(values, dict):
            columns[key] = member_infos(values, members)
        else:
            chosen = values[members]
            columns[key] = chosen.tolist() if chosen.ndim == 1 else list(chosen)
        there = infos.get(f"_{key}")
        if there is not None and not there[members].all():
            absent.append((key, ~there[members]))
    if not columns:
        return [{} for _ in members]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    for key, lacking in absent:
        for k in np.flatnonzero(lacking):
            del rows[k][key]
    return rows
