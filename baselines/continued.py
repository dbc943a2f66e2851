"""Runs of which each begins with what another policy's run of the same seed has found."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from baselines.compare import read_row
from baselines.policies import ComparedPolicy, parse_policy
from baselines.running import run_pairs
from baselines.running_options import RunningOptions
from tiegym.analysis.rows import Row, make_row
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError


@dataclass(frozen=True)
class Continued:
    """A policy that needs a finished run.

    Attributes:
        label: Its name in the table.
        command: The policy, but for the folder of that run, its last word.
        source: Whose runs it begins with.
        place: Where these are kept.
        of_the_next: Whether each seed begins with the run of the next one, the last with that of
            the first: what was found on a seed is then judged on another.
    """

    label: str
    command: str
    source: ComparedPolicy
    place: Path
    of_the_next: bool = False

    def run(self, env: TieConfig, seeds: Sequence[int], options: RunningOptions) -> Row:
        """Runs what is missing, sources aside; returns the row.

        Raises:
            InputError: See `baselines.running.run_pairs`; if a run is damaged, or there is no next
                seed.
            RunsFailed: If a run fails.
        """
        if self.of_the_next and len(seeds) < 2:
            raise InputError(
                f"{self.label}: seeds={len(seeds)} must be at least 2, as each is judged on another"
            )
        pairs = []
        begins = [*seeds[1:], *seeds[:1]] if self.of_the_next else seeds
        for seed, begin in zip(seeds, begins, strict=True):
            folder = shlex.quote(str(self.source.folder(self.place, begin)))
            pairs.append((parse_policy(f"{self.command} {folder}", env), seed))
        run_pairs(pairs, options)
        runs = [read_row(policy, [seed], options.runs_dir).runs[0] for policy, seed in pairs]
        return make_row(self.label, runs)
