"""Admin's start: residual branches are balanced on a first batch, under a fixed pattern.

    python -m baselines.admin --pattern tied --seed 1

After Liu et al. 2020 (arXiv 2004.08249), for blocks with their norms in front; see
`tiegym.transformer.admin`. It is `baselines.fixed` with env.init=admin, and with scales among
env.private, which are the gains that Admin sets and trains. Everything else is as it is given.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baselines import fixed
from tiegym import private as private_parts
from tiegym.config import TieConfig
from tiegym.runs.input_errors import as_input_errors
from tiegym.runs.program import run_program


@dataclass(frozen=True)
class Options(fixed.Options):
    """Train a transformer under a fixed tie vector, from Admin's start."""

    pattern: str = "tied"
    """As of `baselines.fixed`."""

    def used_env(self) -> TieConfig:
        """The environment: the given one, but for Admin's start.

        Raises:
            ValueError: If they don't go together.
        """
        private = private_parts.parse(self.env.private)
        scaled = dataclasses.replace(private, scales=True)
        return dataclasses.replace(self.env, init="admin", private=str(scaled))


def train(options: Options) -> Path:
    """Trains under the pattern; returns the run folder.

    Raises:
        InputError: If the environment doesn't go with this start.
    """
    with as_input_errors(ValueError):
        env = options.used_env()
    return fixed.train(dataclasses.replace(options, env=env), "admin")


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_program(Options, train, args)


if __name__ == "__main__":
    main()
