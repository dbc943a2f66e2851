"""Compares tying policies at the same training budget, over seeds.

    python -m baselines.compare qlearning dqn random tied cycle:2 independent --seeds 5

Each policy is a program of agents/ or baselines/ with its options in quotes
("dqn --learning-rate 1e-4"), a module of your own with `Options` and `train`, a pattern, a tie
vector, shallow:M (M layers without tying), or a folder of finished runs (those that differ in the
seed only make one row). What is missing is run, finished runs are reused.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from baselines.policies import ComparedPolicy, parse_policy
from baselines.ray_options import address_of
from baselines.running import missing_tasks, pairs_of, run_missing, run_pairs
from baselines.running_options import RunningOptions, share_of
from tiegym.analysis.comparison import Judged, given_rows, judge, show, write
from tiegym.analysis.find import TUNING, TUNING_SEEDS, is_run_folder
from tiegym.analysis.rows import Row, make_row
from tiegym.analysis.run_checks import seed_of
from tiegym.analysis.verdicts import LEAST_SEEDS
from tiegym.bench.command_line import named_table, table_env
from tiegym.config import PAPER, TieConfig
from tiegym.runs.commands import python_command, read_command_line
from tiegym.runs.folder import read_run
from tiegym.runs.input_errors import InputError, input_errors
from tiegym.runs.messages import complain, say
from tiegym.runs.processes import long_work


@dataclass(frozen=True)
class Options(RunningOptions):
    """Compare tying policies at the same training budget, over seeds."""

    policies: tyro.conf.Positional[tuple[str, ...]] = ()
    """Programs with options in quotes, patterns, tie vectors, or folders of finished runs."""
    seeds: int = 5
    """Runs of each policy: seeds 0, 1, ..."""
    lr_grid: tuple[float, ...] = ()
    """Learning rates of the transformer to choose from: each policy gets the one that has the
    lowest validation loss over two runs of seeds that the table doesn't use."""
    paper: bool = False
    """Start from the paper's values (TieEnvPaper-v0) instead of TieEnv-v0's."""
    table: str | None = None
    """Start from the environment of a TieBench table (name, or path of an .npz file) instead, as
    agents that learned on it need it."""
    list_missing: bool = False
    """Run nothing: print a command for each run that is missing, a line each, for the job arrays of
    a cluster. With --lr-grid the first are those of tuning; when they are there, ask again."""
    only: str | None = None
    """Run this one only, as --list-missing names it, and make no table."""
    env: TieConfig = field(default_factory=TieConfig)
    """The environment of all policies."""


def compare(options: Options) -> Judged:
    """Runs what is missing, then writes tables and pictures into `runs_dir`.

    Raises:
        InputError: If a policy is unknown, or if runs can't be compared.
        RunsFailed: If a run fails.
    """
    given, policies = _read(options)
    rows = given_rows(given, complain)
    policies = [_check_and_name(policy, rows) for policy in policies]
    if options.lr_grid:
        policies = tune(policies, options.lr_grid, options)
    rows += run_policies(policies, range(options.seeds), options)
    judged = judge(rows)
    write(judged, options.runs_dir)
    return judged


def _read(options: Options) -> tuple[list[Path], list[ComparedPolicy]]:
    """The folders that are given, and the policies that are run, each once."""
    if options.seeds < 1:
        raise InputError(f"seeds={options.seeds} must be at least 1; verdicts need {LEAST_SEEDS}")
    given: list[Path] = []
    policies: dict[Path, ComparedPolicy] = {}
    for text in dict.fromkeys(options.policies):
        if is_run_folder(Path(text)):
            given.append(Path(text))
            continue
        try:
            policy = parse_policy(text, options.env)
        except InputError:
            if not os.path.isdir(text):  # which takes any text, however long
                raise
            given.append(Path(text))  # of several runs
        else:
            policies.setdefault(policy.folder(options.runs_dir, 0), policy)
    if not policies and not given:
        raise InputError("no policies given: name at least one, such as random or cycle:2")
    return given, list(policies.values())


def _check_and_name(policy: ComparedPolicy, given: Sequence[Row]) -> ComparedPolicy:
    """Refuses more or less than an episode; the name is none that a given row has."""
    steps, episode = policy.options.steps, policy.options.env.steps_per_episode
    if steps != episode:
        raise InputError(
            f"{policy.label!r} would take {steps} environment steps, but an episode has {episode}, "
            "the budget of a comparison: leave out --total-steps; an agent that is to learn over "
            "several episodes gets --pretrain-runs or --table"
        )
    if policy.label in {row.policy for row in given}:
        return dataclasses.replace(policy, label=f"{policy.label} (run here)")
    return policy


def run_policies(
    policies: Sequence[ComparedPolicy], seeds: Sequence[int], options: RunningOptions
) -> list[Row]:
    """Runs what is missing of some policies and reads their rows; raises as `run_missing`."""
    run_missing(policies, seeds, options)
    return [read_row(policy, seeds, options.runs_dir) for policy in policies]


def read_row(policy: ComparedPolicy, seeds: Sequence[int], runs_dir: Path) -> Row:
    """The row of a policy whose runs are there.

    Raises:
        InputError: If one of them is damaged.
    """
    try:
        runs = [read_run(policy.folder(runs_dir, seed)) for seed in seeds]
    except (OSError, ValueError) as error:
        raise InputError(f"{error}; remove the run's folder to run it again") from error
    row = make_row(policy.label, runs)
    for run, seed in zip(runs, seeds, strict=True):
        if seed_of(run) != seed:
            raise InputError(
                f"{run.folder} is of seed {seed_of(run)}, and must be of {seed}: remove it to run "
                "that"
            )
    return row


def tune(
    policies: Sequence[ComparedPolicy], rates: Sequence[float], options: RunningOptions
) -> list[ComparedPolicy]:
    """Gives each policy the learning rate with the lowest validation loss; see `run_missing`."""
    tried, there = tuning(policies, rates, options)
    run_missing([policy for row in tried for policy in row], TUNING_SEEDS, there)
    return choose(tried, there)


def tuning(
    policies: Sequence[ComparedPolicy], rates: Sequence[float], options: RunningOptions
) -> tuple[list[list[ComparedPolicy]], RunningOptions]:
    """Each policy with each learning rate, and the options of running them."""
    tried = [[with_learning_rate(p, rate) for rate in rates] for p in policies]
    return tried, dataclasses.replace(options, runs_dir=options.runs_dir / TUNING)


def choose(
    tried: Sequence[Sequence[ComparedPolicy]], there: RunningOptions
) -> list[ComparedPolicy]:
    """Of each row the policy with the lowest validation loss; their runs are there."""

    def validation_loss(policy: ComparedPolicy) -> float:
        return read_row(policy, TUNING_SEEDS, there.runs_dir).mean("val_loss")

    return [min(row, key=validation_loss) for row in tried]


def stages(
    options: Options,
) -> Iterator[tuple[list[tuple[ComparedPolicy, int]], RunningOptions]]:
    """What `compare` runs as arguments of `run_pairs`, as far as it is known.

    Yields:
        With a grid, the runs of tuning, and as long as one of them is missing no more.
    """
    policies = [_check_and_name(policy, ()) for policy in _read(options)[1]]
    if options.lr_grid:
        tried, there = tuning(policies, options.lr_grid, options)
        pairs = pairs_of([policy for row in tried for policy in row], TUNING_SEEDS)
        yield pairs, there
        if missing_tasks(pairs, there):
            return
        policies = choose(tried, there)
    yield pairs_of(policies, range(options.seeds)), options


def missing_commands(options: Options, args: Sequence[str]) -> list[str]:
    """A command for each run that `compare` would run now, which makes that run and no other.

    Args:
        options: Of the comparison.
        args: Its command line.

    Raises:
        InputError: As `compare`.
    """
    if address_of(options.engine) is not None:
        raise InputError(
            f"engine={options.engine!r} runs what is missing by itself: leave out --list-missing, "
            "or --engine"
        )
    rest = [arg for arg in args if arg not in ("--list-missing", "--list_missing")]
    commands = []
    for pairs, there in stages(options):
        share = share_of((policy for policy, _ in pairs), there)
        threads = str(share.threads)  # which are others on other machines
        for task in missing_tasks(pairs, there):
            name = str(task.folder.relative_to(options.runs_dir))
            arguments = [*rest, "--threads", threads, "--only", name]
            commands.append(python_command("baselines.compare", *arguments))
    return commands


def run_only(options: Options, name: str) -> None:
    """Runs one of the runs of a comparison, unless it is finished.

    Args:
        options: Of the comparison.
        name: Of its folder, seen from `runs_dir`.

    Raises:
        InputError: If it is none of them; else as `compare`.
    """
    folder = options.runs_dir / name
    for pairs, there in stages(options):
        if found := [pair for pair in pairs if pair[0].folder(there.runs_dir, pair[1]) == folder]:
            run_pairs(found, there)
            return
    raise InputError(
        f"only={name!r} is no run of this comparison as it is now: --list-missing names them"
    )


def with_learning_rate(policy: ComparedPolicy, rate: float) -> ComparedPolicy:
    """The same policy with another learning rate, which its name says.

    Raises:
        InputError: If there is no such rate.
    """
    try:
        env = dataclasses.replace(policy.options.env, learning_rate=rate)
        options = dataclasses.replace(policy.options, env=env)
    except ValueError as error:
        raise InputError(f"lr_grid: {error}") from error
    return ComparedPolicy(f"{policy.label} (lr {rate:g})", policy.module, options)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else list(args)
    with input_errors():
        if named_table(args) is None:
            env = TieConfig(**(PAPER if "--paper" in args else {}))
        else:
            env = table_env(args)
    options = read_command_line(
        Options, "baselines.compare", __doc__, default=Options(env=env), args=args
    )
    with long_work():
        if options.list_missing:
            for command in missing_commands(options, args):
                say(command, sys.stdout)
            return
        if options.only is not None:
            run_only(options, options.only)
            return
        judged = compare(options)
    show(judged, options.runs_dir)


if __name__ == "__main__":
    main()
