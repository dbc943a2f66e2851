"""Resident memory over many episodes: 500 resets and 5,000 steps.

    python -m benchmarks.leaks

What counts is the growth after the first 10 %, when everything that is kept has been made. Exits
with 1 where it is 2 % or more.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from tiegym import TieEnv
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import at_least


@dataclass(frozen=True)
class Options:
    """Step an environment for a long time and look at the memory."""

    resets: int = 500
    """Episodes."""
    steps: int = 10
    """Environment steps in each."""
    limit: float = 0.02
    """Growth at which it fails."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 2, "resets")
        at_least(self, 1, "steps")


def resident_bytes() -> int:
    """Memory of this process that is in RAM; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def growth(options: Options) -> float:
    """Relative growth of the median memory from the second tenth of the episodes to the last."""
    small: dict[str, Any] = {
        **{"corpus": "synthetic:20000", "n_layer": 4, "n_head": 2, "n_embd": 32},
        **{"block_size": 16, "batch_size": 2, "eval_batches": 1, "test_tokens": 100},
        **{"iters_per_step": 1, "max_iters": options.steps, "device": "cpu", "dropout": 0.1},
    }
    env = TieEnv(**small)
    env.action_space.seed(0)
    seen = []
    for episode in tqdm(range(options.resets), desc="benchmarks.leaks", disable=None):
        env.reset(seed=episode)
        for _ in range(options.steps):
            env.step(env.action_space.sample())
        seen.append(resident_bytes())
    tenth = max(1, options.resets // 10)
    first, last = np.median(seen[tenth : 2 * tenth]), np.median(seen[-tenth:])
    return float(last / first - 1)


def main() -> None:
    """Prints the growth."""
    options = read_command_line(Options, "benchmarks.leaks", __doc__)
    grown = growth(options)
    print(
        f"{options.resets} resets, {options.resets * options.steps} steps: resident memory grew by "
        f"{100 * grown:.2f} % after the first 10 % (limit {100 * options.limit:g} %)"
    )
    sys.exit(grown >= options.limit)


if __name__ == "__main__":
    main()
