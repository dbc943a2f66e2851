"""TieBench-v0: TieEnv's decisions, observations and rewards out of a table; no PyTorch.

What differs from TieEnv: a run is one of the recorded ones, and there is no transformer, so nothing
to export, fork or checkpoint. Many at once are in `tiegym.bench.vector`, what a table
is laid out as in `tiegym.bench.recorded`.
"""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

from tiegym import ties as tie_vectors
from tiegym.bench.recorded import Recorded, check_shows_nothing
from tiegym.bench.table import Split, Table
from tiegym.config import Reward
from tiegym.spaces import make_action_space, make_observation_space
from tiegym.specs import PlainSpec


class TieBench(PlainSpec, gymnasium.Env[dict[str, Any], Any]):
    """Recorded training runs of one transformer under every sequence of layerwise decisions.

    Spaces, observations, rewards, info, masks and end are those of TieEnv of the table's
    configuration. `reset(seed=...)` draws one of the split's recorded seeds;
    `reset(options={"run": k})` takes the k-th.

    Args:
        table: A shipped table's name (`tiegym.bench.table.shipped_tables`), or an .npz file's path.
        split: "train" or "held-out": which recorded seeds.
        reward: As of TieEnv.
        param_cost: As of TieEnv.
        render_mode: None alone.
        **config: Other arguments of TieEnv; they must be the table's.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If it is damaged or has no tree, if the split is unknown, or if an argument
            isn't what the table was made with.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        table: str | os.PathLike[str],
        split: Split = "train",
        reward: Reward = "neg_log_ppl",
        param_cost: float = 0.0,
        render_mode: None = None,
        **config: Any,
    ) -> None:
        """Loads the table, and checks that it can give what is asked for."""
        check_shows_nothing(render_mode)
        self.recorded = Recorded(table, split, reward, param_cost, config)
        self.config = self.recorded.config
        self.split = split
        self.render_mode = render_mode
        self.action_space = make_action_space(self.config)
        self.observation_space = make_observation_space(self.config)
        self.step_stats: dict[str, float | int | str] = {}
        """Always empty: a recorded step takes no time."""
        self._run: int | None = None
        self._node = 0

    @property
    def table(self) -> Table:
        """The table."""
        return self.recorded.table

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begins an episode.

        Args:
            seed: Seeds the draws of this and later episodes.
            options: None, or {"run": k}: the k-th recorded seed of the split.

        Raises:
            ValueError: If an option is unknown, or the split has no such run.
        """
        super().reset(seed=seed)
        runs = self.recorded.runs
        options = options or {}
        if unknown := set(options) - {"run"}:
            raise ValueError(f"options={options!r}: reset knows run, not {sorted(unknown)}")
        run = options.get("run")
        if run is None:
            run = int(self.np_random.integers(len(runs)))
        else:
            run = self.recorded.numbers_of(run, 1)[0]
        self._run, self._node = int(runs[run]), 0
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Goes on to what the table says of the action.

        Raises:
            gymnasium.error.ResetNeeded: Before the first reset and after the end of an episode.
            ValueError: If the action isn't in the action space.
        """
        if self._run is None:
            raise gymnasium.error.ResetNeeded("call env.reset() first: there is no episode yet")
        node = self.recorded.children[self._node]
        if node[0] < 0:
            raise gymnasium.error.ResetNeeded("the episode ended: call env.reset()")
        if not self.action_space.contains(action):
            raise ValueError(f"action={action!r} is not in {self.action_space}")
        self._node = node[int(action)]
        reward = float(self.recorded.rewards[self._run, self._node])
        terminated = self.recorded.children[self._node][0] < 0
        return self._observation(), reward, terminated, False, self._info()

    @property
    def node(self) -> int:
        """Where the episode is in `table.tree`: 0 at its beginning, one of `leaves` at its end."""
        return self._node

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """The actions that differ from each other, bool (L,); as TieEnv's."""
        return tie_vectors.mask(int(self.recorded.tree.layer[self._node]), self.config.n_layer)

    @property
    def ties(self) -> tie_vectors.Ties:
        """A copy of the tie vector, int64 (L,)."""
        ties: tie_vectors.Ties = self.recorded.tree.ties[self._node].copy()
        return ties

    def _observation(self) -> dict[str, Any]:
        assert self._run is not None
        recorded, node = self.recorded, self._node
        own, shared = recorded.by_run, recorded.by_node[node]
        return {
            "ties": shared["ties"].copy(),
            "layer": int(shared["layer"]),
            "budget": shared["budget"].copy(),
            "loss": own["loss"][self._run, node].copy(),
            "layer_stats": own["layer_stats"][self._run, node].copy(),
        }

    def _info(self) -> dict[str, Any]:
        assert self._run is not None
        return self.recorded.info(self._run, self._node)
