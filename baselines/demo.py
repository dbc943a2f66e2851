"""The demonstration of `make demo`: six tying policies on real text in about three minutes.

python -m baselines.demo
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from baselines.compare import Options, compare
from tiegym.analysis.comparison import show
from tiegym.config import TieConfig
from tiegym.runs.commands import read_command_line
from tiegym.runs.processes import long_work

POLICIES = ("qlearning", "dqn", "random", "tied", "cycle:2", "independent")
FOLDER = Path("runs/demo")


def demo() -> None:
    """Train a small transformer under six tying policies and compare them."""
    console = Console()
    env = TieConfig(max_iters=200)
    options = Options(policies=POLICIES, seeds=2, runs_dir=FOLDER, env=env, stale="rerun")
    console.print(
        f"A {env.n_layer}-layer transformer learns the source text of Python's standard library, "
        f"{env.max_iters} iterations a run, {options.seeds} seeds, under: {', '.join(POLICIES)}.\n"
        f"Run folders: {FOLDER}/. Stop it at any time; finished runs are used the next time.",
        highlight=False,
    )
    with long_work():
        judged = compare(options)
    show(judged, FOLDER)


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program; it has no options but --help."""
    read_command_line(demo, "baselines.demo", args=args)


if __name__ == "__main__":
    main()
