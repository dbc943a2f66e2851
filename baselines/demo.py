"""The demonstration of `make demo`: six tying policies on real text in about three minutes.

python -m baselines.demo
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from baselines.arms import stoppable
from baselines.compare import Options, compare, show
from tiegym.config import TieConfig

POLICIES = ("qlearning", "dqn", "random", "tied", "cycle:2", "independent")
FOLDER = Path("runs/demo")


def main() -> None:
    """Runs the comparison from the beginning, and shows it."""
    console = Console()
    env = TieConfig(max_iters=200)
    options = Options(policies=POLICIES, seeds=2, runs_dir=FOLDER, env=env)
    console.print(
        f"A {env.n_layer}-layer transformer learns the source text of Python's standard library, "
        f"{env.max_iters} iterations a run, {options.seeds} seeds, under: {', '.join(POLICIES)}.\n"
        f"Run folders: {FOLDER}/. Stop it at any time; finished runs are used the next time.",
        highlight=False,
    )
    with stoppable():
        rows = compare(options)
    show(rows, FOLDER)


if __name__ == "__main__":
    main()
