"""Retraining: the final tie vector of a finished run, as a fixed pattern from scratch.

    python -m baselines.retrain --run runs/qlearning-seed0 --seed 1

It answers whether a policy is worth its tie vector only, or also the way that led to it: training
under changing ties. The environment is that of the run; its arguments on the command line change
it. In a comparison, `baselines.compare "retrain --run runs/qlearning-seed0"`, it is that of the
comparison.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiegym import parts
from tiegym.analysis.groups import program
from tiegym.config import TieConfig
from tiegym.policies.fixed import FixedTies
from tiegym.runs.input_errors import InputError, as_input_errors, input_errors
from tiegym.runs.options import RunOptions
from tiegym.runs.program import open_run, run_policy, run_program
from tiegym.runs.recorder import Run, read_run


@dataclass(frozen=True)
class Options(RunOptions):
    """Train a transformer under the final tie vector of a finished run."""

    run: Path | None = None
    """Folder of the finished run; must be given."""

    def source_record(self) -> dict[str, Any]:
        """See `RunOptions.source_record`; what it takes over is the tie vector."""
        return _record(read_source(self.run))


def read_source(folder: Path | None) -> Run:
    """Reads the run whose tie vector is asked for.

    Raises:
        InputError: If no folder is given, it holds no run, or its run isn't finished.
    """
    if folder is None:
        raise InputError("give the folder of a finished run: --run runs/NAME")
    with as_input_errors():
        source = read_run(folder)
    if source.summary is None or not source.summary["finished"]:
        raise InputError(f"{folder} is not a finished run: its tie vector is not final")
    final, episodes = (source.summary.get(name) for name in ("final", "episodes"))
    if not (final and final.get("ties") and episodes and "env" in source.config):
        raise InputError(
            f"{folder} is damaged: it has no environment, no episodes or no final ties"
        )
    if any("iteration" not in episode for episode in episodes):
        raise InputError(f"{folder} is damaged: it has an episode without iterations")
    return source


def _record(source: Run) -> dict[str, Any]:
    assert source.summary is not None
    ties = list(source.summary["final"]["ties"])
    return {"run": source.folder, "program": program(source), "ties": ties}


def spent_iterations(source: Run) -> int:
    """Iterations that it took to find the tie vector: the run's own, and what it spent besides."""
    assert source.summary is not None
    own = sum(episode["iteration"] for episode in source.summary["episodes"])
    return int(own + source.summary.get("extra_iterations", 0))


def train(options: Options) -> Path:
    """Trains under the tie vector of the run; returns the run folder.

    Raises:
        InputError: If the run isn't finished, or had another number of layers.
    """
    source = read_source(options.run)
    record = _record(source)
    found = record["ties"]
    n_layer, n_parts = options.env.n_layer, options.env.n_parts
    theirs = source.config["env"].get("tie_parts", "block")
    if theirs != options.env.tie_parts:
        raise InputError(
            f"{source.folder} tied with tie_parts={theirs!r}, but env.tie_parts="
            f"{options.env.tie_parts!r}: they must be the same"
        )
    if len(found) != n_parts * n_layer:
        raise InputError(
            f"{source.folder} ended with the ties of {len(found) // n_parts} layers, but "
            f"env.n_layer={n_layer}: they must be the same"
        )
    ties = parts.validate(found, n_layer, n_parts)
    env_config = dataclasses.replace(options.env, initial_ties=tuple(ties.tolist()))
    options = dataclasses.replace(options, env=env_config)
    name = f"retrain-{record['program']}"
    with open_run(options, name, protocol="pretrained", source=record) as env:
        env.note(extra_iterations=spent_iterations(source))
        run_policy(env, FixedTies(ties, env.action_space), options.seed, options.steps)
    return env.folder


def source_path(args: Sequence[str]) -> Path | None:
    """What `--run` names on a command line; None where it isn't there."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--run", type=Path)
    path: Path | None = first.parse_known_args(args)[0].run
    return path


def source_env(args: Sequence[str]) -> TieConfig | None:
    """The environment of the run that `--run` names, for defaults; None where none is named."""
    folder = source_path(args)
    if folder is None:
        return None
    with input_errors():
        source = read_source(folder)
        try:
            return TieConfig(**source.config["env"])
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{folder / 'config.json'} holds no environment that this version understands: "
                f"{error}"
            ) from error


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    args = sys.argv[1:] if args is None else args
    run_program(Options, train, args, source_env(args))


if __name__ == "__main__":
    main()
