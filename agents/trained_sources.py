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
from tiegym.config import TieConfig, default_arguments
from tiegym.runs.input_errors import InputError

_OF_A_TABLE = {"table": str, "table_sha256": str, "table_seeds": list}
"""What a record says of a table."""


@dataclass(frozen=True)
class Learnt:
    """Where an agent learnt.

    Attributes:
        protocol: Of the run for which it did.
        seed: Of that run.
        n_layer: Of its transformer.
        corpus_sha256: Of its text.
        table: What records say of the table that it learnt on; {} if it didn't.
    """

    protocol: str
    seed: int
    n_layer: int
    corpus_sha256: str
    table: dict[str, Any]

    @property
    def record(self) -> dict[str, Any]:
        """What the record of a run says in which such an agent decides."""
        said = {name: getattr(self, name) for name in _SAID}
        return {"learnt": said, **self.table}


_SAID = {"protocol": str, "seed": int, "n_layer": int, "corpus_sha256": str}
"""What a record says of where an agent learnt, a table aside."""


def where_learnt(folder: Path, config: Mapping[str, Any]) -> Learnt:
    """Where the agent of a run learnt, by the run's record.

    Args:
        folder: Of the run, for errors.
        config: Its `config.json`.

    Raises:
        InputError: If it doesn't say.
    """
    options = config.get("options") or {}
    said: Any = {
        "protocol": config.get("protocol"),
        "seed": options.get("seed"),
        "n_layer": config["env"].get("n_layer"),
        "corpus_sha256": config.get("corpus_sha256"),
    }
    if options.get("source") is not None:  # it only decided there
        said = config.get("learnt")
        if not isinstance(said, dict):
            raise InputError(
                f"{folder} has its agent from {config.get('source_run')!r}, and its record is of a "
                "version that didn't say where that learnt: give that run as the source"
            )
    known = ("online", "pretrained", "tabulated")
    right = all(type(said.get(name)) is kind for name, kind in _SAID.items())
    if not right or said["protocol"] not in known:
        raise InputError(
            f"{folder} doesn't say how its agent learnt: {said!r:.200} must have "
            f"{', '.join(_SAID)}, and the protocol be one of {', '.join(known)}"
        )
    table = {}
    if said["protocol"] == "tabulated":
        table = {name: config.get(name) for name in _OF_A_TABLE}
        if wrong := [name for name in table if type(table[name]) is not _OF_A_TABLE[name]]:
            raise InputError(
                f"{folder} doesn't say on which recorded seeds its agent learnt: its {wrong[0]} is "
                f"{table[wrong[0]]!r:.80}. Let it learn again"
            )
    return Learnt(**{name: said[name] for name in _SAID}, table=table)


def check_seed(folder: Path, learnt: Learnt, seed: int, n_layer: int, corpus_sha256: str) -> None:
    """Checks that an agent didn't learn on the run in which it is to decide.

    Another number of layers, or another text, is another transformer.

    Args:
        folder: Of the run that it is taken from, for errors.
        learnt: Where it learnt.
        seed: Of the run in which it is to decide.
        n_layer: Of its transformer.
        corpus_sha256: Of its text.

    Raises:
        InputError: If it did.
    """
    met = learnt.table["table_seeds"] if learnt.table else [learnt.seed]
    if learnt.protocol == "pretrained" or seed not in met:  # seeds beyond those of runs
        return
    if (n_layer, corpus_sha256) == (learnt.n_layer, learnt.corpus_sha256):
        how = "on a table with its recorded run" if learnt.table else "online in that run"
        raise InputError(
            f"{folder} has an agent that learnt {how}, of seed={seed}, and would decide in it "
            "again: give a --seed other than "
            f"{', '.join(map(str, met[:20]))}, or another text or number of layers"
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
    spent, steps = (run.summary.get(name, 0) for name in ("extra_iterations", "table_steps"))
    if run.config.get("protocol") == "online":
        spent = spent_iterations(run)
    for name, value in (("extra_iterations", spent), ("table_steps", steps)):
        if type(value) is not int or value < 0:
            raise InputError(f"{folder} is damaged: its {name} is {value!r:.80}")
    return Source(folder, agent, learnt, spent, steps)


def agent_in(source: Path) -> SavedAgent:
    """The agent of a run's folder, or of the agent.zip in one.

    Raises:
        InputError: If there is none.
    """
    if source.suffix == ".zip":
        return read_agent(source)
    if not source.is_dir():
        raise InputError(f"{source} is no run's folder: name one of agents.pairwise")
    if not (source / AGENT_FILE).exists():
        if not (source / "agent.zip").exists():
            raise InputError(
                f"{source} has no {AGENT_FILE}: its agent was left out where the run was copied or "
                "unpacked. Run it again, in another folder"
            )
        raise InputError(
            f"{source} has no {AGENT_FILE}: its agent is in an archive of tiegym 0.1. If you trust "
            f"it, name the archive itself: --source {source / 'agent.zip'}"
        )
    return read_agent(source / AGENT_FILE)


def recorded_source(config: dict[str, Any]) -> dict[str, Any]:
    """What the record of a run that goes on says of the agent's source; less in older ones."""
    names = ("source", "learnt", "table", "table_sha256", "table_seeds")
    return {name: config[name] for name in names if name in config}
