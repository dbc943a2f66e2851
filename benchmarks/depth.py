"""What depth is worth in a setting: untied transformers of several depths, and fixed sharings.

    python -m benchmarks.depth --out runs/depth.jsonl

Before any policy about layers is judged somewhere, more layers must be worth something there. Each
cell is an untied transformer of M layers (`shallow:M`) or a fixed sharing of all layers, trained
from several seeds; differences from the untied transformer of all layers are paired by seed. A line
is kept for each run: stopped, the same command goes on. One thread.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm.auto import tqdm

from baselines.settings import DEEP
from benchmarks import timing
from tiegym import TieEnv
from tiegym.analysis.intervals import paired_difference
from tiegym.config import TieConfig
from tiegym.runs.json_files import append_line, read_lines
from tiegym.training.one_thread import one_thread


@dataclass(frozen=True)
class Options:
    """Measure what depth and sharing are worth."""

    cells: tuple[str, ...] = (
        *("shallow:1", "shallow:2", "independent", "tied", "sequence:2", "cycle:2"),
    )
    """shallow:M, patterns, or tie vectors."""
    seeds: int = 5
    """Runs of each cell: seeds 0, 1, ..."""
    out: Path = Path("runs/depth.jsonl")
    """A line for each run; those of the same setting that are there aren't run again."""
    env: TieConfig = field(default_factory=lambda: DEEP)
    """The setting; n_layer is that of the whole transformer."""


def config_of(cell: str, env: TieConfig) -> TieConfig:
    """The environment of a cell.

    Raises:
        ValueError: If it is no pattern and no number of layers.
    """
    head, _, layers = cell.partition(":")
    if head == "shallow":
        return dataclasses.replace(env, n_layer=int(layers), initial_ties="independent")
    return dataclasses.replace(env, initial_ties=cell)


def final_losses(env: TieEnv, seed: int) -> dict[str, float]:
    """Validation and test loss in nats after a whole run whose ties never change."""
    observation, _ = env.reset(seed=seed)
    terminated = False
    while not terminated:
        keep = int(observation["ties"][observation["layer"]])
        observation, _, terminated, _, info = env.step(keep)
    return {"val_loss": info["val_loss"], "test_loss": math.log(info["test_perplexity"])}


def measure(options: Options) -> dict[str, list[float]]:
    """The test loss of each cell in nats, seed by seed; what is missing is run and kept."""
    setting = json.loads(json.dumps(dataclasses.asdict(options.env)))
    kept: list[dict[str, Any]] = []
    if options.out.exists():
        kept = [line for line in read_lines(options.out) if line["env"] == setting]
    found = {(line["cell"], line["seed"]): line["test_loss"] for line in kept}
    missing = [
        (cell, seed)
        for seed in range(options.seeds)  # seed by seed: cut off, it leaves pairs
        for cell in options.cells
        if (cell, seed) not in found
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with one_thread(), FileIO(options.out, "a") as file:
        for cell, seed in tqdm(missing, desc="benchmarks.depth", disable=None):
            env = TieEnv(**dataclasses.asdict(config_of(cell, options.env)))
            losses = final_losses(env, seed)
            append_line(file, {"cell": cell, "seed": seed, **losses, "env": setting})
            found[cell, seed] = losses["test_loss"]
    return {cell: [found[cell, s] for s in range(options.seeds)] for cell in options.cells}


def run(options: Options) -> None:
    """Prints the table, best first."""
    found = measure(options)
    timing.title("What depth is worth", "benchmarks.depth")
    timing.header(
        "transformer", "test loss, nats", "s.d. of seeds", "over independent, paired [95 %]"
    )
    whole = found.get("independent", [])
    for cell, losses in sorted(found.items(), key=lambda item: float(np.mean(item[1]))):
        difference = ""
        if cell != "independent" and len(whole) > 1:
            d = paired_difference(losses, whole)
            difference = f"{d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]"
        spread = f"{np.std(losses, ddof=1):.4f}" if len(losses) > 1 else ""
        timing.row((cell, f"{np.mean(losses):.4f}", spread, difference))


if __name__ == "__main__":
    run(tyro.cli(Options, description=__doc__))
