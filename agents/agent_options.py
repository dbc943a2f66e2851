"""The options that all learning agents have, and how much they learn before the recorded run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.ranges import check_ranges
from agents.table_options import TableOptions


@dataclass(frozen=True)
class AgentOptions(TableOptions):
    """The options that all learning agents have."""

    pretrain_runs: int = 0
    """Whole training runs, of other seeds, over which the agent learns first; then it plays the
    recorded run greedily and learns no more. 0: it learns during the recorded run."""
    envs: int = 1
    """With --table: recorded runs that are stepped at a time."""

    @classmethod
    def on_table(cls) -> dict[str, Any]:
        """See `TableOptions.on_table`."""
        return {"envs": 50}

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            FileNotFoundError: See `TableOptions`.
            ValueError: If one is out of range, or see `TableOptions`.
        """
        super().__post_init__()
        check_ranges(self)
        if self.pretrain_runs < 0:
            raise ValueError(
                f"pretrain_runs={self.pretrain_runs} must be a number of training runs, 0 or more"
            )
        if self.envs < 1:
            raise ValueError(f"envs={self.envs} must be at least 1")
        if self.table is None and self.envs > 1:
            raise ValueError(
                f"envs={self.envs} recorded runs at a time need a table to be in: give --table, or "
                "leave --envs out"
            )
        if self.table is not None and self.pretrain_runs:
            raise ValueError(
                f"pretrain_runs={self.pretrain_runs} and table={self.table!r} are two ways to "
                "learn before the recorded run: give one of them"
            )
        if self.table_steps % self.envs:
            raise ValueError(
                f"total_steps={self.table_steps} is no multiple of envs={self.envs}, which decide "
                f"together: take {self.table_steps // self.envs * self.envs or self.envs}, or "
                "another number of --envs"
            )

    @property
    def protocol(self) -> str:
        """Online, pretrained or tabulated."""
        if self.table is not None:
            return "tabulated"
        return "pretrained" if self.pretrain_runs else "online"

    @property
    def pretraining_steps(self) -> int:
        """Environment steps before the recorded run; those on a table are none."""
        return self.pretrain_runs * self.env.steps_per_episode

    @property
    def all_steps(self) -> int:
        """Environment steps, those before the recorded run included."""
        return self.pretraining_steps + self.steps


@dataclass(frozen=True)
class CriticOptions(AgentOptions):
    """The options of agents that learn values."""

    reward_differences: bool = True
    """Learn from the change of the reward from step to step, not from its level; see
    `agents.reward_differences.RewardDifferences`."""
