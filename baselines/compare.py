"""Compares tying policies at the same training budget, over seeds.

    python -m baselines.compare qlearning dqn random tied cycle:2 independent --seeds 5

Each policy is a program of agents/ or baselines/ with its options in quotes
("dqn --learning-rate 1e-4"), a pattern, a tie vector, or a folder of a finished run (several that
differ in the seed only make one row). What is missing is run, finished runs are reused.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.console import Console

from baselines.arms import Arm, parse_arm, run_missing, stoppable
from tiegym.analysis import rows as report
from tiegym.analysis import tables
from tiegym.analysis.groups import find_runs, group_runs
from tiegym.analysis.verdicts import LEAST_SEEDS
from tiegym.config import PAPER, TieConfig
from tiegym.pictures.comparison import plot_comparison, plot_pareto, plot_ties
from tiegym.runs.input_errors import InputError, input_errors
from tiegym.runs.recorder import read_run


@dataclass(frozen=True)
class Options:
    """Compare tying policies at the same training budget, over seeds."""

    policies: tyro.conf.Positional[tuple[str, ...]]
    """Programs with options in quotes, patterns, tie vectors, or folders of finished runs."""
    seeds: int = 5
    """Runs of each policy: seeds 0, 1, ..."""
    runs_dir: Path = Path("runs/compare")
    """Where run folders, tables and pictures go."""
    workers: int | None = None
    """Runs at a time; None is one for every core, or one with a GPU."""
    lr_grid: tuple[float, ...] = ()
    """Learning rates of the transformer to choose from: each policy gets the one that has the
    lowest validation loss over two runs of seeds that the table doesn't use."""
    paper: bool = False
    """Start from the paper's values (TieEnvPaper-v0) instead of TieEnv-v0's."""
    quiet: bool = False
    """Show no progress."""
    env: TieConfig = field(default_factory=TieConfig)
    """The environment of all policies."""


TUNING_SEEDS = (1_000_001, 1_000_002)


def compare(options: Options) -> list[report.Row]:
    """Runs what is missing, then writes tables and pictures into `runs_dir`.

    Raises:
        ValueError: If a policy is unknown, or if runs can't be compared.
        RuntimeError: If a run fails.
    """
    if options.seeds < 1:
        raise InputError(f"seeds={options.seeds} must be at least 1; verdicts need {LEAST_SEEDS}")
    given: list[Path] = []
    arms: list[Arm] = []
    for policy in dict.fromkeys(options.policies):
        if (Path(policy) / "config.json").is_file():
            given.append(Path(policy))
        else:
            arms.append(parse_arm(policy, options.env))
    if not arms and not given:
        raise InputError("no policies given: name at least one, such as random or cycle:2")
    rows = given_rows(given)
    arms = [_check_and_name(arm, rows) for arm in arms]
    if options.lr_grid:
        arms = tune(arms, options)
    rows += run_arms(arms, range(options.seeds), options.runs_dir, options.workers, options.quiet)
    write(rows, options.runs_dir)
    return rows


def given_rows(folders: Sequence[Path]) -> list[report.Row]:
    """The rows of finished runs: those that differ in nothing but the seed make one.

    Raises:
        InputError: If a folder can't be read, or its run can't be compared.
    """
    if not folders:
        return []
    try:
        groups = group_runs(find_runs(folders))
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    return [report.make_row(group.label, group.runs) for group in groups]


def _check_and_name(arm: Arm, given: Sequence[report.Row]) -> Arm:
    """Refuses an arm of more or less than an episode; its name is none that a given row has."""
    steps, episode = arm.options.steps, arm.options.env.steps_per_episode
    if steps != episode:
        raise InputError(
            f"{arm.label!r} would take {steps} environment steps, but an episode has {episode}, "
            "the budget of a comparison: leave out --total-steps; an agent that is to learn over "
            "several episodes gets --pretrain-runs"
        )
    if arm.label in {row.policy for row in given}:
        return dataclasses.replace(arm, label=f"{arm.label} (run here)")
    return arm


def run_arms(
    arms: Sequence[Arm],
    seeds: Sequence[int],
    runs_dir: Path,
    workers: int | None = None,
    quiet: bool = False,
) -> list[report.Row]:
    """Runs what is missing of some arms and reads their rows; arguments as of `run_missing`."""
    run_missing(arms, seeds, runs_dir, workers, quiet)
    return [
        report.make_row(arm.label, [read_run(arm.folder(runs_dir, seed)) for seed in seeds])
        for arm in arms
    ]


def tune(arms: list[Arm], options: Options) -> list[Arm]:
    """Gives each arm the learning rate of the grid with the lowest validation loss."""
    tried = [[_with_learning_rate(arm, rate) for rate in options.lr_grid] for arm in arms]
    run_missing(
        [arm for row in tried for arm in row],
        TUNING_SEEDS,
        options.runs_dir / "tuning",
        options.workers,
        options.quiet,
    )

    def validation_loss(arm: Arm) -> float:
        runs = [read_run(arm.folder(options.runs_dir / "tuning", seed)) for seed in TUNING_SEEDS]
        return report.make_row(arm.label, runs).mean("val_loss")

    return [min(row, key=validation_loss) for row in tried]


def _with_learning_rate(arm: Arm, rate: float) -> Arm:
    env = dataclasses.replace(arm.options.env, learning_rate=rate)
    options = dataclasses.replace(arm.options, env=env)
    return Arm(f"{arm.label} (lr {rate:g})", arm.module, options)


def write(rows: list[report.Row], folder: Path) -> None:
    """Sorts the rows, best first, and writes their table and pictures.

    Raises:
        ValueError: If the runs can't be compared.
    """
    report.check_comparable(rows)
    rows.sort(key=lambda row: row.perplexity)
    folder.mkdir(parents=True, exist_ok=True)
    table = tables.make_table(rows)
    text = tables.caption(rows, table)
    (folder / "comparison.md").write_text(tables.markdown(table, text))
    tables.write_csv(table, folder / "comparison.csv")
    plot_comparison(rows, folder / "comparison.png")
    plot_pareto(rows, folder / "pareto.png")
    plot_ties(rows, folder / "ties.png")


def show(rows: Sequence[report.Row], folder: Path) -> None:
    """Prints the table and says where everything is."""
    console = Console()
    if not console.is_terminal:
        console.width = 220  # a file has room for every column
    table = tables.make_table(rows)
    console.print(tables.terminal_table(table, console.width))
    console.print(tables.caption(rows, table), style="dim", highlight=False, markup=False)
    console.print(f"all columns: {folder / 'comparison.md'} (and .csv)", highlight=False)
    console.print(
        f"pictures:    {folder / 'comparison.png'}, pareto.png and ties.png", highlight=False
    )
    console.print(f"run folders: {folder}", highlight=False)
    console.print(f"TensorBoard: tensorboard --logdir {folder}", highlight=False)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else list(args)
    env = TieConfig(**(PAPER if "--paper" in args else {}))
    options = tyro.cli(
        Options, default=Options(policies=(), env=env), args=args, description=__doc__
    )
    with input_errors(InputError), stoppable():
        rows = compare(options)
    show(rows, options.runs_dir)


if __name__ == "__main__":
    main()
