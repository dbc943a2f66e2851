"""Agents that learn on a table, seed by seed: what is kept of each, and many of them at once.

One seed of one agent is a file of its own as soon as it is whole. It holds where the agent's
episodes ended, and no regret: that is computed from the table whenever it is asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import json
import shlex
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agents.agent_options import AgentOptions
from agents.tabulated import TablePolicy, learn_on_table
from baselines.policies import OF_THE_COMPARISON
from baselines.ray_options import address_of
from baselines.studies import LEARNING
from tiegym.bench.environment import TieBench
from tiegym.bench.regret import play
from tiegym.bench.table import SPLITS, Table, load_table
from tiegym.bench.tree import Ints
from tiegym.config import TieConfig
from tiegym.runs import provenance
from tiegym.runs.commands import read_command_line
from tiegym.runs.folder import WHERE_AND_HOW
from tiegym.runs.input_errors import InputError
from tiegym.runs.json_files import plain, read_json, write_json
from tiegym.runs.processes import do_all
from tiegym.runs.progress import Progress
from tiegym.runs.source_code import source_sha256
from tiegym.training.one_thread import one_thread

_GIVEN = ("seed", "total_steps", "table", "env", "pretrain_runs", *OF_THE_COMPARISON)
"""Options that an agent gets from the comparison."""

_BENCH = tuple(
    f"tiegym.bench.{name}" for name in ("environment", "regret", "tree", "values", "vector")
)


@dataclass(frozen=True)
class Learner:
    """An agent with its options, but for the seed.

    Attributes:
        label: As it was written.
        module: Its program.
        options: For this table, price and number of decisions.
        decisions: After which it is judged; rising.
    """

    label: str
    module: str
    options: AgentOptions
    decisions: tuple[int, ...]

    @property
    def table(self) -> Table:
        """The table that it learns on."""
        return load_table(str(self.options.table))

    @property
    def fingerprint(self) -> str:
        """Changes with all that its ends depend on but for the seed: code and versions included."""
        left_out = {"seed", "table", *WHERE_AND_HOW}
        options = {k: v for k, v in plain(self.options).items() if k not in left_out}
        code = [source_sha256(module) for module in (self.module, __name__, *_BENCH)]
        parts = [
            *(self.table.sha256, self.module, options, self.decisions),
            *(code, provenance.versions()),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def path(self, folder: Path, seed: int) -> Path:
        """Where what a seed of it has learnt is kept."""
        program = self.module.rpartition(".")[2]
        return folder / f"{program}-{self.fingerprint[:16]}-seed{seed}.json"


@dataclass(frozen=True)
class Learnt:
    """What is kept of one seed of an agent.

    Attributes:
        ends: Of each split, the leaves where its greedy episodes ended, (C, R): after each number
            of decisions, for each recorded seed.
        cpu_seconds: That it took to learn, the environment included, judging left out.
    """

    ends: dict[str, Ints]
    cpu_seconds: float


def parse_learner(text: str, table: str, config: TieConfig, decisions: Sequence[int]) -> Learner:
    """Reads an agent's name and options, which begin with what it prefers on a table.

    Args:
        text: Such as "dqn" or "ppo --learning-rate 1e-3".
        table: A tree's name or path.
        config: The table's, with the reward and price that the agent learns from.
        decisions: After which it is judged.

    Raises:
        InputError: If there is no such agent, if an option is out of range or the comparison's, or
            if the agent learns nothing from so few decisions.
    """
    try:
        head, *args = shlex.split(text) or [""]
    except ValueError as error:  # a quote without its end
        raise InputError(f"{text!r} is no agent: {error}") from error
    if head not in LEARNING:
        near = difflib.get_close_matches(head, LEARNING, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(
            f"{head!r} is no agent that learns: {hint}There are {', '.join(LEARNING)}; what "
            "doesn't learn is in every result by itself"
        )
    module = f"agents.{head}"
    kind: type[AgentOptions] = importlib.import_module(module).Options
    try:
        # The text of a table needn't be on this machine: while options are read, another stands in.
        stand_in = dataclasses.replace(config, corpus="stdlib")
        default = kind.for_table(table, env=stand_in)
        options = read_command_line(kind, module, args=args, default=default)
        for name in _GIVEN:
            if getattr(options, name) != getattr(default, name):
                raise ValueError(
                    f"--{name.replace('_', '-')} is no agent's: all get it from this program"
                )
        options = dataclasses.replace(options, env=config, total_steps=decisions[-1])
    except (OSError, ValueError) as error:
        raise InputError(f"{text!r}: {error}") from error
    envs, rollout = options.envs, options.envs * getattr(options, "n_steps", 1)
    if any(n % envs for n in decisions):
        raise InputError(
            f"decisions={list(decisions)}: {head!r} decides in {envs} episodes at once: give "
            f"multiples of {envs}, or another number of them (agent '{head} --envs 1')"
        )
    if decisions[0] < rollout:
        raise InputError(
            f"decisions={list(decisions)}: {head!r} has learnt nothing before the end of its first "
            f"rollout, {rollout} decisions: begin there, or give it a shorter one (--n-steps)"
        )
    return Learner(text, module, options, tuple(decisions))


def learn(learner: Learner, seed: int) -> Learnt:
    """Lets one seed of an agent learn on the train seeds, and plays greedily now and then."""
    options = dataclasses.replace(learner.options, seed=seed)
    envs = [TieBench(str(options.table), split) for split in SPLITS]  # type: ignore[arg-type]
    ends: dict[str, list[Ints]] = {split: [] for split in SPLITS}
    judging = 0.0

    def judge(decisions: int, policy: TablePolicy) -> None:
        nonlocal judging
        begin = time.process_time()
        for env in envs:
            ends[env.split].append(play(policy, env))
        judging += time.process_time() - begin

    with one_thread():  # the bits depend on how many there are
        begin = time.process_time()
        make_model = importlib.import_module(learner.module).make_model
        learn_on_table(options, make_model, learner.decisions, judge)
        seconds = time.process_time() - begin - judging
    return Learnt({split: np.array(found) for split, found in ends.items()}, seconds)


def read_learnt(path: Path, learner: Learner) -> Learnt | None:
    """What is kept of a seed; None if there is nothing.

    Raises:
        InputError: If the file is damaged, naming it.
    """
    if not path.is_file():
        return None
    kept = read_json(path)
    table = learner.table
    leaves, ends = table.tree.leaves, {}
    try:
        if kept["fingerprint"] != learner.fingerprint:
            raise ValueError("it is of another agent, table or code")
        for split in SPLITS:
            ends[split] = np.array(kept["ends"][split])
            shape = len(learner.decisions), len(table.rows_of(split))
            if ends[split].shape != shape or not np.isin(ends[split], leaves).all():
                raise ValueError(f"its ends of split {split} must be {shape} leaves")
        seconds = float(kept["cpu_seconds"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error!r}; remove it to learn it again") from error
    return Learnt(ends, seconds)


def learn_and_keep(task: tuple[Learner, int, Path]) -> None:
    """Lets one seed of an agent learn, and writes what is kept of it into a folder."""
    learner, seed, folder = task
    learnt = learn(learner, seed)
    about: dict[str, Any] = {
        "agent": learner.label,
        "seed": seed,
        "table": learner.table.name,
        "table_sha256": learner.table.sha256,
        "price": learner.options.env.param_cost,
        "decisions": learner.decisions,
        "options": learner.options,
        "versions": provenance.versions(),
        "fingerprint": learner.fingerprint,
    }
    write_json(learner.path(folder, seed), {**about, **dataclasses.asdict(learnt)})


def learn_missing(
    learners: Sequence[Learner],
    seeds: Sequence[int],
    folder: Path,
    workers: int | None,
    quiet: bool,
    engine: str = "processes",
) -> dict[str, list[Learnt]]:
    """Lets all agents learn that aren't kept yet; returns what each has learnt, seed by seed.

    Args:
        learners: The agents.
        seeds: Of each.
        folder: Where it is kept.
        workers: Processes, with one thread each; their number changes nothing in what is learnt.
            None is one, and with Ray as many as there is room for.
        quiet: Show no progress.
        engine: Where they are: "processes" of this machine, "ray", or "ray:ADDRESS"; see
            `baselines.ray_options.address_of`.

    Raises:
        InputError: If what is kept is damaged, or Ray can't be used.
        RunsFailed: If a process was killed, with Ray several times.
    """
    address = address_of(engine)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [
        (learner, seed, folder)
        for seed in seeds  # seed by seed: cut off, it leaves something of each
        for learner in learners
        if read_learnt(learner.path(folder, seed), learner) is None
    ]
    total = sum(learner.decisions[-1] for learner in learners) * len(seeds)
    done = total - sum(learner.decisions[-1] for learner, *_ in missing)
    with closing(Progress(total, "learning", quiet, done, unit="decisions")) as progress:
        if address is None:
            learning = do_all(learn_and_keep, missing, workers or 1)
        else:
            from baselines.ray_workers import do_all_on_ray

            modules = {__name__, *_BENCH, *(learner.module for learner in learners)}
            learning = do_all_on_ray(address, learn_and_keep, missing, folder, modules, workers)
        for learner, *_ in learning:
            done += learner.decisions[-1]
            progress.update(done)
    result = {}
    for learner in learners:
        found = [read_learnt(learner.path(folder, seed), learner) for seed in seeds]
        result[learner.label] = [learnt for learnt in found if learnt is not None]
        assert len(result[learner.label]) == len(seeds)
    return result
