"""The options that all learning agents have, and where an agent learns: see `agents.protocols`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from agents.ranges import check_ranges
from tiegym.bench.environment import load_tree, real_config
from tiegym.bench.table import Table
from tiegym.config import TieConfig
from tiegym.data.sources import validate_corpus
from tiegym.runs.input_errors import InputError
from tiegym.runs.options import RunOptions

TABLE_STEPS = 100_000
"""Decisions on a table unless --total-steps says how many."""


@dataclass(frozen=True)
class AgentOptions(RunOptions):
    """The options that all learning agents have."""

    total_steps: int | None = None
    """Environment steps; None is one episode. With --table: decisions on the table; None is
    100,000."""
    pretrain_runs: int = 0
    """Whole training runs, of other seeds, over which the agent learns first; then it plays the
    recorded run greedily and learns no more. 0: it learns during the recorded run."""
    table: str | None = None
    """TieBench table, by name or as the path of an .npz file: the agent learns on its recorded
    runs first, then plays the recorded run greedily and learns no more. The environment is the
    table's, and the agent's settings default to other values, which --table NAME --help shows."""
    envs: int = 1
    """With --table: recorded runs that are stepped at a time."""

    ON_TABLE: ClassVar[dict[str, Any]] = {"envs": 50}
    """Options that have other defaults with a table, where decisions cost next to nothing."""
    FREE_ON_TABLE: ClassVar[tuple[str, ...]] = ("reward", "param_cost", "corpus")
    """Arguments of the environment that need not be the table's. The text itself must be."""

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            FileNotFoundError: If there is no such table.
            ValueError: If one is out of range, two contradict each other, or the environment isn't
                that of the table.
        """
        super().__post_init__()
        check_ranges(self)
        if self.pretrain_runs < 0:
            raise ValueError(
                f"pretrain_runs={self.pretrain_runs} must be a number of training runs, 0 or more"
            )
        if self.envs < 1:
            raise ValueError(f"envs={self.envs} must be at least 1")
        if self.table is not None:
            self._check_table(load_tree(self.table))
        elif self.envs > 1:
            raise ValueError(
                f"envs={self.envs} recorded runs at a time need a table to be in: give --table, or "
                "leave --envs out"
            )

    def _check_table(self, table: Table) -> None:
        assert self.table is not None
        if self.pretrain_runs:
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
        recorded = real_config(self.table)
        for field in dataclasses.fields(TieConfig):
            value, expected = getattr(self.env, field.name), getattr(recorded, field.name)
            if field.name not in self.FREE_ON_TABLE and value != expected:
                raise ValueError(
                    f"env.{field.name}={value!r}, but table {table.name!r} was made with "
                    f"{expected!r}: leave it out, choose another table, or make one with "
                    "`python -m tiegym.bench.make`"
                )

    @classmethod
    def for_table(cls, table: str, env: TieConfig | None = None, **options: Any) -> Self:
        """The options of an agent that learns on a table: its defaults there, and what is given.

        Args:
            table: Its name or path.
            env: Of the recorded run; None is the table's.
            **options: Any others.

        Raises:
            FileNotFoundError: If there is no such table.
            ValueError: See the class.
        """
        env = real_config(table) if env is None else env
        return cls(**{**cls.ON_TABLE, "table": table, "env": env, **options})

    @classmethod
    def defaults(cls, args: Sequence[str], env: TieConfig | None = None) -> Self:
        """See `RunOptions.defaults`; a table changes the environment and the agent's settings."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--table")
        parser.add_argument("--env.corpus", dest="corpus")
        given = parser.parse_known_args(args)[0]
        if given.table is None:
            return super().defaults(args, env)
        if "--paper" in args:
            raise InputError("--paper and --table bring two environments: give one of them")
        if env is None:
            env = real_config(given.table)
            _check_corpus(given.table, given.corpus or env.corpus)
        return cls.for_table(given.table, env)

    @property
    def protocol(self) -> str:
        """Online, pretrained or tabulated."""
        if self.table is not None:
            return "tabulated"
        return "pretrained" if self.pretrain_runs else "online"

    @property
    def steps(self) -> int:
        """Environment steps of the recorded run."""
        return self.env.steps_per_episode if self.table is not None else super().steps

    @property
    def table_steps(self) -> int:
        """Decisions on the table before it; 0 without one."""
        if self.table is None:
            return 0
        return TABLE_STEPS if self.total_steps is None else self.total_steps

    @property
    def pretraining_steps(self) -> int:
        """Environment steps before the recorded run; those on a table are none."""
        return self.pretrain_runs * self.env.steps_per_episode

    @property
    def all_steps(self) -> int:
        """Environment steps, those before the recorded run included."""
        return self.pretraining_steps + self.steps


def _check_corpus(table: str, corpus: str) -> None:
    """The table of a local text knows its name alone."""
    try:
        validate_corpus(corpus)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{error}. The recorded run needs the text that table {table!r} was made on: give it "
            "with --env.corpus"
        ) from error


@dataclass(frozen=True)
class CriticOptions(AgentOptions):
    """The options of agents that learn values."""

    reward_differences: bool = True
    """Learn from the change of the reward from step to step, not from its level; see
    `agents.reward_differences.RewardDifferences`."""
