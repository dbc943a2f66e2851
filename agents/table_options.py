"""The options of programs that can learn on a TieBench table before the run that they record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from tiegym.bench.command_line import named_table, table_env
from tiegym.bench.recorded import config_to_train, load_tree, real_config
from tiegym.config import TieConfig
from tiegym.data.corpora import load_corpus
from tiegym.runs.folder import read_config
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.options import RunOptions

TABLE_STEPS = 100_000
"""Decisions on a table unless --total-steps says how many."""


@dataclass(frozen=True)
class TableOptions(RunOptions):
    """The options of a program that can learn on a table."""

    total_steps: int | None = None
    """Environment steps; None is one episode. With --table: decisions on the table; None is
    100,000."""
    table: str | None = None
    """TieBench table, by name or as the path of an .npz file: the program learns on its recorded
    runs first, then plays the recorded run greedily and learns no more. The environment is the
    table's, and other settings have other defaults, which --table NAME --help shows."""

    @classmethod
    def on_table(cls) -> dict[str, Any]:
        """Options that have other defaults with a table, where decisions cost next to nothing."""
        return {}

    @classmethod
    def free_on_table(cls) -> tuple[str, ...]:
        """Arguments of the environment that need not be the table's. The text itself must be."""
        return ("reward", "param_cost", "corpus")

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            FileNotFoundError: If there is no such table.
            ValueError: If one is out of range, two contradict each other, or the environment isn't
                that of the table.
        """
        super().__post_init__()
        if self.table is None:
            return
        if self.paper:
            raise ValueError(
                f"paper=True and table={self.table!r} bring two environments: give one of them"
            )
        recorded = real_config(self.table)
        for field in dataclasses.fields(TieConfig):
            value, expected = getattr(self.env, field.name), getattr(recorded, field.name)
            if field.name not in self.free_on_table() and value != expected:
                raise ValueError(
                    f"env.{field.name}={value!r}, but table {self.table!r} was made with "
                    f"{expected!r}: leave it out, choose another table, or make one with "
                    "`python -m tiegym.bench.make`"
                )

    @classmethod
    def for_table(cls, table: str, env: TieConfig | None = None, **options: Any) -> Self:
        """The options with a table: the program's defaults there, and what is given.

        Args:
            table: Its name or path.
            env: Of the recorded run; None is the table's, whose text has to be given for a run
                where the table's word for it isn't a name for certain.
            **options: Any others.

        Raises:
            FileNotFoundError: If there is no such table.
            ValueError: See the class.
        """
        env = config_to_train(table) if env is None else env
        return cls(**{**cls.on_table(), "table": table, "env": env, **options})

    @classmethod
    def defaults(cls, args: Sequence[str], env: TieConfig | None = None) -> Self:
        """See `RunOptions.defaults`; a table changes the environment and the settings."""
        table = named_table(args)
        if table is None:
            return super().defaults(args, env)
        return cls.for_table(table, table_env(args) if env is None else env)

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
    def table_facts(self) -> dict[str, Any]:
        """What a record says of the table, and of the seeds that were learnt from; else nothing.

        The recorded run of the program's own seed is never one of them.
        """
        if self.table is None:
            return {}
        table = load_tree(self.table)
        seeds = [seed for seed in table.seeds["train"] if seed != self.seed]
        return {"table": self.table, "table_sha256": table.sha256, "table_seeds": seeds}


def check_run(options: TableOptions) -> None:
    """Whether a run's text is that of its table, and a resumed run's table the one that it had.

    Nothing is checked without a table.

    Raises:
        InputError: If not, or if the text can't be read.
    """
    if options.table is None:
        return
    table, env = load_tree(options.table), options.env
    with as_input_errors():
        text = load_corpus(env.corpus, env.tokenizer).sha256
    if text != table.facts["corpus_sha256"]:
        raise InputError(
            f"corpus {env.corpus!r} has sha256 {text}, but table {table.name!r} was made on a text "
            f"with {table.facts['corpus_sha256']}: give that text with --env.corpus"
        )
    if options.resume is None:
        return
    recorded = read_config(options.resume).get("table_sha256")
    if recorded not in (None, table.sha256):
        raise InputError(
            f"{options.resume} can only go on with the table that it began with: "
            f"{options.table!r} has sha256 {table.sha256}, and had {recorded}. Give it that file "
            "again, or start anew"
        )
