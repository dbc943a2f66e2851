"""Many TieBench-v0 at once: one NumPy look-up a step for all of them."""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from tiegym.bench.recorded import COUNTS, Recorded, check_shows_nothing
from tiegym.bench.table import Split
from tiegym.config import Reward
from tiegym.spaces import make_action_space, make_observation_space
from tiegym.specs import PlainSpec, parse_members, parse_mode


class TieBenchVector(PlainSpec, gymnasium.vector.VectorEnv[Any, Any, Any]):
    """`num_envs` recorded runs at once; arguments as of `tiegym.bench.environment.TieBench`.

    Args:
        num_envs: Members.
        table: A tree's name or path.
        split: "train" or "held-out".
        reward: As of TieEnv.
        param_cost: As of TieEnv.
        autoreset_mode: NEXT_STEP: the step after an end begins the next episode, whatever its
            action, with reward 0. SAME_STEP: the last step of an episode returns the observation
            of the next one, and its own in `infos["final_obs"]` and `infos["final_info"]`.
        **config: Other arguments of TieEnv; they must be the table's.

    Raises:
        ValueError: See `TieBench`; or if there is no member, or the mode is another.
    """

    metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int,
        table: str | os.PathLike[str],
        split: Split = "train",
        reward: Reward = "neg_log_ppl",
        param_cost: float = 0.0,
        render_mode: None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **config: Any,
    ) -> None:
        """Loads the table once for all."""
        num_envs = parse_members(num_envs)
        check_shows_nothing(render_mode)
        self.mode = parse_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.mode}
        self.recorded = Recorded(table, split, reward, param_cost, config)
        self.config = self.recorded.config
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_action_space = make_action_space(self.config)
        self.single_observation_space = make_observation_space(self.config)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._run = np.zeros(num_envs, dtype=np.int64)
        self._node = np.zeros(num_envs, dtype=np.int64)
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._begun = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode for every member.

        Args:
            seed: A number seeds the draws of all members; a list of numbers each member's first,
                and one of None is drawn as the next episode would be.
            options: None, or {"run": k} or {"run": (k_1, ..., k_n)}: recorded runs of the split.

        Raises:
            ValueError: If an option is unknown, the split has no such run, or there isn't a seed
                or a run for each member.
        """
        runs = self.recorded.runs
        given = (options or {}).get("run")
        if unknown := set(options or {}) - {"run"}:
            raise ValueError(f"options={options!r}: reset knows run, not {sorted(unknown)}")
        draws: npt.NDArray[np.int64]
        if isinstance(seed, list):
            if len(seed) != self.num_envs:
                raise ValueError(f"seed={seed!r} must have {self.num_envs} seeds, one a member")
            own = [None if s is None else np.random.default_rng(s) for s in seed]
            draws = np.array([(rng or self.np_random).integers(len(runs)) for rng in own])
            super().reset(seed=next((s for s in seed if s is not None), None))
        else:
            super().reset(seed=seed)
            draws = self.np_random.integers(len(runs), size=self.num_envs)
        if given is not None:
            draws = self.recorded.numbers_of(given, self.num_envs)
        self._run, self._node = runs[draws], np.zeros(self.num_envs, dtype=np.int64)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._begun = True
        return self._observation(), self._infos(np.ones(self.num_envs, dtype=np.bool_))

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps every member; see `autoreset_mode` for those whose episode has ended.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset.
            ValueError: If an action isn't in the action space.
        """
        if not self._begun:
            raise gymnasium.error.ResetNeeded("call reset() first: there is no episode yet")
        actions = np.asarray(actions)
        n_layer = self.config.n_layer
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise ValueError(
                f"actions={actions!r} must be {self.num_envs} integers from 0 to {n_layer - 1}"
            )
        if actions.min() < 0 or actions.max() >= n_layer:
            raise ValueError(f"actions={actions!r} must be from 0 to {n_layer - 1}")
        recorded, begins = self.recorded, self._ended
        node = recorded.tree.children[self._node, actions]
        node[begins] = 0  # of an episode that ended at the step before
        self._node = node
        self._draw(begins)
        rewards = recorded.rewards[self._run, node]  # 0 at the root
        ended = recorded.columns["ended"][node]
        everyone = np.ones(self.num_envs, dtype=np.bool_)
        if self.mode is AutoresetMode.NEXT_STEP or not ended.any():
            infos = self._infos(everyone)
            self._ended = ended.copy()  # the caller's own is returned
        else:
            final_obs = np.full(self.num_envs, None, dtype=object)
            observations = self._observation()
            for k in np.flatnonzero(ended):
                final_obs[k] = {key: value[k].copy() for key, value in observations.items()}
                final_obs[k]["layer"] = int(observations["layer"][k])  # as a single one has it
            final = self._infos(ended)
            self._node = np.where(ended, 0, node)
            self._draw(ended)
            infos = self._infos(everyone)
            infos |= {"final_obs": final_obs, "_final_obs": ended.copy()}
            infos |= {"final_info": final, "_final_info": ended.copy()}
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        return self._observation(), rewards, ended, truncated, infos

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """The actions that differ from each other, member by member, bool (N, L)."""
        masks: npt.NDArray[np.bool_] = self.recorded.columns["action_mask"][self._node] > 0
        return masks

    def _draw(self, members: npt.NDArray[np.bool_]) -> None:
        """Gives members another recorded run, from the stream of the vector environment."""
        runs, count = self.recorded.runs, int(members.sum())
        if count:
            self._run = self._run.copy()
            self._run[members] = runs[self.np_random.integers(len(runs), size=count)]

    def _observation(self) -> dict[str, npt.NDArray[Any]]:
        recorded, run, node = self.recorded, self._run, self._node
        return {
            **{key: recorded.columns[key][node] for key in ("ties", "budget")},
            "layer": recorded.columns["layer"][node].astype(np.int16),
            **{key: values[run, node] for key, values in recorded.by_run.items()},
        }

    def _infos(self, members: npt.NDArray[np.bool_]) -> dict[str, Any]:
        """Gymnasium's form of many infos: an array for each key, and `_key`, who has it."""
        recorded, run, node = self.recorded, self._run, self._node
        per_token = recorded.table.facts["bytes_per_token"]
        loss = recorded.val[run, node]
        infos: dict[str, Any] = {
            "perplexity": np.exp(loss),
            "bits_per_byte": loss / np.log(2) / per_token["validation"],
            "train_loss": recorded.train[run, node],
            "val_loss": loss,
            "ties": recorded.tree.ties[node],
            **{key: recorded.columns[key][node] for key in (*COUNTS, "action_mask")},
            "diverged": np.zeros(self.num_envs, dtype=np.bool_),
        }
        ended = recorded.columns["ended"][node]
        test = np.where(ended, recorded.test[run, node], np.inf)  # read at the end alone
        infos["test_perplexity"] = np.exp(test)
        infos["test_bits_per_byte"] = test / np.log(2) / per_token["test"]
        for key in tuple(infos):
            infos[f"_{key}"] = members.copy()
        return infos
