"""The options that all learning agents have, and how much they learn before the recorded run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agents.ranges import check_ranges
from agents.table_options import TableOptions
from tiegym.training.population_limits import check_population


@dataclass(frozen=True)
class AgentOptions(TableOptions):
    """The options that all learning agents have."""

    pretrain_runs: int = 0
    """Whole training runs, of other seeds, over which the agent learns first; then it plays the
    recorded run greedily and learns no more. 0: it learns during the recorded run."""
    envs: int = 1
    """Runs that the agent learns from at a time, before the recorded one: with --table recorded
    runs, with --pretrain-runs transformers that are trained together (as TiePopulation-v0)."""

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
            if not self.pretrain_runs:
                raise ValueError(
                    f"envs={self.envs} are runs to learn from before the recorded one, and who "
                    "learns during it has that one alone: give --table or --pretrain-runs, or "
                    "leave --envs out"
                )
            check_population(self.env)
        if self.table is not None and self.pretrain_runs:
            raise ValueError(
                f"pretrain_runs={self.pretrain_runs} and table={self.table!r} are two ways to "
                "learn before the recorded run: give one of them"
            )
        if self.pretrain_runs % self.envs:
            more = -(-self.pretrain_runs // self.envs) * self.envs
            raise ValueError(
                f"pretrain_runs={self.pretrain_runs} is no multiple of envs={self.envs}, which "
                f"train together: take {more}, or another number of --envs"
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
