"""How far agents that learn on a table stay behind the best policy, after so many decisions.

    python -m baselines.regret tree-4x2-stdlib-owner --workers 2
    python -m baselines.regret TABLE --agents dqn "dqn --gamma 1.0" --split train --seeds 2

Each agent learns on the train seeds of a tree, from several seeds of its own, and stops at times to
play the recorded seeds of the split greedily. Its regret is the objective at the end of these
episodes (loss plus price times independent share, in nats) less that of the best end of each
recorded seed: exact, nothing is sampled. What has been learnt is kept seed by seed: stopped, the
same command goes on, and other tables, figures and splits of the same agents take no time.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import tyro

from baselines.ray_options import address_of
from baselines.regret_table import DRAWN, Report, make_report, markdown, write_csv
from baselines.studies import LEARNING
from baselines.table_learning import Learner, learn_missing, parse_learner
from tiegym.atomic_write import write_bytes
from tiegym.bench.recorded import load_tree, real_config
from tiegym.bench.table import Judge, Split
from tiegym.pictures.regret import plot_regret
from tiegym.pictures.style import Theme
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import InputError, as_input_errors
from tiegym.runs.messages import say
from tiegym.runs.processes import long_work

PICTURES: dict[Theme, str] = {"light": "regret.png", "dark": "regret-dark.png"}


@dataclass(frozen=True)
class Options:
    """Measure the regret of learning agents on a table."""

    table: tyro.conf.Positional[str]
    """A shipped tree's name, or the path of an .npz file."""
    agents: tuple[str, ...] = LEARNING
    """Programs of agents/, with options in quotes: "ppo --learning-rate 1e-3"."""
    seeds: int = 10
    """Of each agent: 0, 1, ..."""
    decisions: tuple[int, ...] = (100, 1_000, 10_000, 100_000)
    """After which agents are judged; they learn for the last of these."""
    price: float = 0.0
    """In nats, of training all layers independently; agents learn from it, too."""
    split: Split = "held-out"
    """Whose recorded seeds are played. Settings are chosen on train."""
    loss: Judge = "val"
    """By which ends are judged; agents learn from that of validation."""
    engine: str = "processes"
    """Where agents learn: processes of this machine; ray, which starts a Ray on it; or ray:ADDRESS,
    a Ray cluster by its HOST:PORT, or ray:auto, that of this machine."""
    workers: int | None = None
    """Processes; each computes with one thread. None is one, and with Ray as many as there is room
    for. Their number changes nothing in the result."""
    out: Path = Path("runs/regret")
    """Where tables, pictures and what has been learnt go: into a folder of the table's name."""
    quiet: bool = False
    """Show no progress."""


def check(options: Options) -> None:
    """Refuses numbers that mean nothing.

    Raises:
        InputError: If one is out of range.
    """
    if options.seeds < 2:
        raise InputError(f"seeds={options.seeds} must be at least 2: one has no interval")
    address_of(options.engine)
    if options.workers is not None and options.workers < 1:
        raise InputError(f"workers={options.workers} must be at least 1")
    given = options.decisions
    if not given or given[0] < 1 or any(a >= b for a, b in pairwise(given)):
        raise InputError(f"decisions={list(given)} must be numbers from 1 on that rise")
    if not 0 <= options.price < float("inf"):
        raise InputError(f"price={options.price} must be a number of nats, 0 or more")
    if not options.agents or len(set(options.agents)) < len(options.agents):
        raise InputError(f"agents={list(options.agents)} must name at least one agent, each once")


def read_learners(options: Options) -> list[Learner]:
    """The agents that are asked for.

    Raises:
        InputError: If one of them, the table or a number is none that can be used.
    """
    check(options)
    with as_input_errors():
        config = real_config(options.table, "delta_ppl_params", options.price)
    return [parse_learner(a, options.table, config, options.decisions) for a in options.agents]


def measure(options: Options) -> Report:
    """Lets agents learn that haven't yet, and returns their regret.

    Raises:
        InputError: If what is asked for can't be done, or what was kept is damaged.
    """
    learners = read_learners(options)
    table = load_tree(options.table)
    folder = options.out / table.name
    try:
        learnt = learn_missing(
            learners,
            range(options.seeds),
            folder / "learnt",
            options.workers,
            options.quiet,
            options.engine,
        )
    except OSError as error:
        raise InputError(f"{folder} can't be used: {error}") from error
    return make_report(table, learnt, options.decisions, options.price, options.split, options.loss)


def write(report: Report, folder: Path) -> None:
    """Writes tables and pictures into a folder.

    Raises:
        InputError: If it can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(folder / "regret.md", markdown(report).encode())
        write_csv(report, folder / "regret.csv")
        levels = {name: report.levels[name] for name in DRAWN}
        for theme, name in PICTURES.items():
            plot_regret(report.curves, levels, folder / name, theme, report.title)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error}") from error


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    options = read_command_line(
        Options,
        "baselines.regret",
        __doc__,
        default=Options(table=tyro.MISSING),
        args=sys.argv[1:] if args is None else list(args),
    )
    with long_work():
        report = measure(options)
        folder = options.out / report.table
        write(report, folder)
    say(markdown(report), sys.stdout)
    say(f"all columns: {folder}/regret.csv", sys.stdout)
    say(f"pictures:    {folder}/{' and '.join(PICTURES.values())}", sys.stdout)


if __name__ == "__main__":
    main()
