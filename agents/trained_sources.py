"""The finished run whose agent decides in another one: where it learnt, and where it may decide.

An agent that meets the run of a seed again plays the very transformer that it learnt on. So the
record of a run says where its agent learnt, however many runs it has gone through since.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.saved_agents import AGENT_FILE, SavedAgent, read_agent
from baselines.retrain import read_source, spent_iterations
from tiegym.bench.table import load_table, shipped_tables
from tiegym.config import TieConfig, default_arguments
from tiegym.runs.input_errors import InputError

_OF_A_TABLE = {"table": str, "table_sha256": str, "table_seeds": list}
"""What a record says of a table; those before 0.2 have no `table_seeds`."""


@dataclass(frozen=True)
class Learnt:
    """Where an agent learnt.

    Attributes:
        protocol: Of the run for which it did.
        seed: Of that run.
        table: What records say of the table that it learnt on; {} if it didn't.
    """

    protocol: str
    seed: int
    table: dict[str, Any]

    @property
    def record(self) -> dict[str, Any]:
        """What the record of a run says in which such an agent decides."""
        return {"learnt": {"protocol": self.protocol, "seed": self.seed}, **self.table}

    @property
    def seeds(self) -> list[int] | None:
        """The recorded seeds of the table that it learnt on; None if nobody knows them.

        A path that a record names isn't read.
        """
        if "table_seeds" in self.table:
            return list(self.table["table_seeds"])
        name = self.table.get("table")
        if name not in shipped_tables() or load_table(name).sha256 != self.table["table_sha256"]:
            return None
        return [seed for seed in load_table(name).seeds["train"] if seed != self.seed]


def where_learnt(folder: Path, config: Mapping[str, Any]) -> Learnt:
    """Where the agent of a run learnt, by the run's record.

    Args:
        folder: Of the run, for errors.
        config: Its `config.json`.

    Raises:
        InputError: If it doesn't say.
    """
    options = config.get("options") or {}
    protocol, seed = config.get("protocol"), options.get("seed")
    if options.get("source") is not None:  # it only decided there
        said = config.get("learnt")
        if not isinstance(said, dict):
            raise InputError(
                f"{folder} has its agent from {config.get('source_run')!r}, and its record is of a "
                "version that didn't say where that learnt: give that run as the source"
            )
        protocol, seed = said.get("protocol"), said.get("seed")
    known = ("online", "pretrained", "tabulated")
    if protocol not in known or type(seed) is not int:
        raise InputError(
            f"{folder} doesn't say how its agent learnt: protocol={protocol!r:.80} must be one of "
            f"{', '.join(known)}, and seed={seed!r:.80} an integer"
        )
    table = {name: config[name] for name in _OF_A_TABLE if config.get(name) is not None}
    if wrong := [name for name, value in table.items() if type(value) is not _OF_A_TABLE[name]]:
        raise InputError(f"{folder} is damaged: its {wrong[0]} is {table[wrong[0]]!r:.80}")
    if protocol == "tabulated" and not {"table", "table_sha256"} <= table.keys():
        raise InputError(f"{folder} is damaged: it doesn't say on which table its agent learnt")
    return Learnt(protocol, seed, table if protocol == "tabulated" else {})


def check_seed(folder: Path, learnt: Learnt, seed: int) -> None:
    """Checks that an agent didn't learn on the run in which it is to decide.

    Args:
        folder: Of the run that it is taken from, for errors.
        learnt: Where it learnt.
        seed: Of the run in which it is to decide, whatever its text and its depth.

    Raises:
        InputError: If it did, or if nobody knows.
    """
    if learnt.protocol == "online" and learnt.seed == seed:
        raise InputError(
            f"{folder} has an agent that learnt online in the run of seed={seed}, and would decide "
            "in the run that it learnt on: give another --seed"
        )
    if learnt.protocol != "tabulated" or learnt.seed == seed:
        return
    if learnt.seeds is None:
        raise InputError(
            f"{folder} doesn't say on which recorded seeds of table "
            f"{learnt.table['table']!r:.200} its agent learnt, only that it left out its own: give "
            f"--seed {learnt.seed}, or let it learn again"
        )
    if seed in learnt.seeds:
        raise InputError(
            f"{folder} has an agent that learnt on recorded seeds of table "
            f"{learnt.table['table']!r:.200}, and seed={seed} is one of them: give --seed "
            f"{learnt.seed}, which it left out, or one that isn't recorded"
        )


@dataclass(frozen=True)
class Source:
    """A finished run whose agent is to decide in another.

    Attributes:
        folder: Of the run.
        agent: Its agent.
        learnt: Where that learnt.
        spent_iterations: Training iterations that it took.
        table_steps: Decisions on a table that it took.
    """

    folder: Path
    agent: SavedAgent
    learnt: Learnt
    spent_iterations: int
    table_steps: int


def find_source(source: Path, env: TieConfig, named_by_user: bool) -> Source:
    """The agent of a finished run, and what it took to train it.

    Args:
        source: Folder of a run of this program, or the agent.zip in one.
        env: The environment that it is to act in.
        named_by_user: Whether it was just named on the command line, and not by a file.

    Raises:
        InputError: If there is none that can be used.
    """
    folder = source.parent if source.suffix == ".zip" else source
    run = read_source(folder)
    if run.config.get("program") != "pairwise":
        raise InputError(
            f"{folder} is a run of {run.config.get('program')}: give one of agents.pairwise, whose "
            "agent alone fits any number of layers"
        )
    for name in ("tie_parts", "choices", "features"):
        theirs = run.config["env"].get(name, default_arguments()[name])
        if theirs != getattr(env, name):
            raise InputError(
                f"{folder} has an agent for {name}={theirs!r}, but env.{name} is "
                f"{getattr(env, name)!r}: its agent fits any number of layers, "
                "but no other choices or features"
            )
    if folder != source and not named_by_user:
        raise InputError(f"{source} was named by a record, and not by you: start this run anew")
    agent, learnt = agent_in(source), where_learnt(folder, run.config)
    assert run.summary is not None
    spent = run.summary.get("extra_iterations", 0)
    if run.config.get("protocol") == "online":
        spent = spent_iterations(run)
    return Source(folder, agent, learnt, int(spent), _count(folder, run.summary, "table_steps"))


def agent_in(source: Path) -> SavedAgent:
    """The agent of a run's folder, or of the agent.zip in one.

    Raises:
        InputError: If there is none.
    """
    if source.suffix == ".zip":
        return read_agent(source)
    if not (source / AGENT_FILE).exists():
        raise InputError(
            f"{source} has no {AGENT_FILE}: its agent is in an archive of tiegym 0.1. If you trust "
            f"it, name the archive itself: --source {source / 'agent.zip'}"
        )
    return read_agent(source / AGENT_FILE)


def _count(folder: Path, summary: dict[str, Any], name: str) -> int:
    value = summary.get(name, 0)
    if type(value) is not int or value < 0:
        raise InputError(f"{folder} is damaged: its {name} is {value!r:.80}")
    return value


def record_of(source: Path, agent: SavedAgent) -> dict[str, Any]:
    """What a record says of the run that an agent was taken from; see `source_record`."""
    return {"run": source, "agent_sha256": agent.sha256}


def recorded_source(config: dict[str, Any]) -> dict[str, Any]:
    """What the record of a run that goes on says of the agent's source; less in older ones."""
    names = ("source", "learnt", "table", "table_sha256", "table_seeds")
    return {name: config[name] for name in names if name in config}
