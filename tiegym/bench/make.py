"""Makes tables: trains every run of one, seed by seed, on as many processes as asked.

    python -m tiegym.bench.make tree-4x2-stdlib-owner --workers 2
    python -m tiegym.bench.make tree-3x3-mine-sum --corpus my-texts/ --env.iters-per-step 30

Each seed is kept as a file of its own as soon as it is whole: stopped at any moment, the same
command goes on. The number of processes changes nothing in the table: each computes with one
thread.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import tyro

from tiegym.atomic_write import replacing
from tiegym.bench.arithmetic import arithmetic
from tiegym.bench.record import (
    TOGETHER_UP_TO,
    Arrays,
    config_points,
    record_fixed,
    record_tree,
)
from tiegym.bench.table import NAMES_IN_TABLES, NOT_IN_TABLES, Table, write_table
from tiegym.bench.tree import grow_tree, sharings
from tiegym.config import TieConfig, TieGrad, default_arguments
from tiegym.data.corpora import load_corpus
from tiegym.runs import provenance
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import DamagedFile, InputError, as_input_errors, at_least
from tiegym.runs.messages import say
from tiegym.runs.processes import do_all, long_work
from tiegym.runs.progress import Progress
from tiegym.runs.source_code import source_sha256
from tiegym.training.one_thread import one_thread

NAME = re.compile(
    r"(?:tree-(\d+)x(\d+)|patterns-(\d+))-([a-z0-9][a-z0-9.]*(?:-[a-z0-9.]+)*)-(owner|sum)"
)


@dataclass(frozen=True)
class Options:
    """Make a table of all runs of a small transformer."""

    table: tyro.conf.Positional[str]
    """tree-LxS-TEXT-GRAD (L layers, S sweeps) or patterns-L-TEXT-GRAD; GRAD is owner or sum."""
    corpus: str | None = None
    """The text, as of TieEnv; None is the one that the table's name says. The name may say more of
    a table than its text: patterns-6-stdlib-slow-sum with --corpus stdlib."""
    seeds: int = 12
    """Recorded seeds of the split train: 0, 1, ..."""
    held_out: int = 4
    """Recorded seeds of the split held-out: those that follow."""
    points: int = 20
    """Of a table of patterns: evaluations in a run."""
    workers: int = 1
    """Processes; each computes with one thread."""
    out: Path = Path("runs/tables")
    """Where the table goes, and the seeds that are whole until then."""
    quiet: bool = False
    """Show no progress."""
    env: TieConfig = field(default_factory=TieConfig)
    """Sizes and training; layers, ties, action and max_iters follow from the table."""


@dataclass(frozen=True)
class Plan:
    """What a table is made of; the same in every process."""

    name: str
    n_sweeps: int
    """0: fixed sharings alone."""
    env: TieConfig
    text_sha256: str
    train: tuple[int, ...]
    held_out: tuple[int, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds, in the order of the table."""
        return self.train + self.held_out

    @property
    def together(self) -> bool:
        """Whether fixed sharings train together: not those of trees, which are exact."""
        return not self.n_sweeps and self.env.n_embd <= TOGETHER_UP_TO

    @property
    def iterations_per_seed(self) -> int:
        """Training iterations behind one seed, shallow models included."""
        fixed = (len(sharings(self.env.n_layer)) + self.env.n_layer - 1) * self.env.max_iters
        if not self.n_sweeps:
            return fixed
        tree = grow_tree(self.env.n_layer, self.n_sweeps)
        return fixed + tree.n_segments * self.env.iters_per_step

    @property
    def fingerprint(self) -> str:
        """Changes with all that a seed's arrays depend on: text, code and versions included."""
        parts = [
            *(dataclasses.asdict(self.env), self.n_sweeps, self.text_sha256),
            *(provenance.versions(), source_sha256("tiegym.bench.record")),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def make_plan(options: Options) -> Plan:
    """Reads the name of a table.

    Raises:
        InputError: If it is none, or a number is out of range.
    """
    match = NAME.fullmatch(options.table)
    if match is None:
        raise InputError(
            f"table={options.table!r} is no table's name: write tree-LxS-TEXT-GRAD or "
            "patterns-L-TEXT-GRAD, such as tree-4x2-stdlib-owner or patterns-6-stdlib-sum"
        )
    tree_layers, sweeps, pattern_layers, text, grad = match.groups()
    at_least(options, 1, "seeds", "held_out", "workers", "points")
    for name in NOT_IN_TABLES:
        if (value := getattr(options.env, name)) != default_arguments()[name]:
            raise InputError(
                f"env.{name}={value!r} can't be recorded: tables are of whole blocks that share "
                "weights or train their own, of our own transformer, with the features that are "
                "always there, from initial weights that are drawn, and kept whole: leave "
                f"{name}={default_arguments()[name]!r}"
            )
    if not NAMES_IN_TABLES["tokenizer"].fullmatch(options.env.tokenizer):
        raise InputError(
            f"env.tokenizer={options.env.tokenizer!r} is a file of this machine, which a table "
            "can't name: choose bytes, bpe-N, word, word-N or gpt2"
        )
    n_layer, n_sweeps = int(tree_layers or pattern_layers), int(sweeps or 0)
    steps = (n_layer - 1) * n_sweeps if n_sweeps else options.points
    with as_input_errors():
        env = dataclasses.replace(
            options.env,
            n_layer=n_layer,
            corpus=options.corpus or text,
            tie_grad=cast(TieGrad, grad),
            action="layerwise",
            initial_ties="tied",
            max_iters=steps * options.env.iters_per_step,
            device="cpu",
            dtype="float32",
        )
        if n_sweeps:
            grow_tree(n_layer, n_sweeps)
        elif n_layer > 8:
            raise ValueError(f"{n_layer} layers have over 20,000 sharings: take at most 8")
        text_sha256 = load_corpus(env.corpus, env.tokenizer).sha256
    seeds = tuple(range(options.seeds + options.held_out))
    train, held_out = seeds[: options.seeds], seeds[options.seeds :]
    return Plan(options.table, n_sweeps, env, text_sha256, train, held_out)


def make(options: Options) -> Path:
    """Makes a table; returns its file.

    Raises:
        InputError: If an option is impossible, or the text can't be read.
        RunsFailed: If a process was killed.
    """
    plan = make_plan(options)
    parts = options.out / f"{plan.name}.parts"
    parts.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in plan.seeds if read_part(parts, plan, seed) is None]
    done = (len(plan.seeds) - len(missing)) * plan.iterations_per_seed
    progress = Progress(len(plan.seeds) * plan.iterations_per_seed, plan.name, options.quiet, done)
    with closing(progress):
        for _ in do_all(_record, [(parts, plan, seed) for seed in missing], options.workers):
            done += plan.iterations_per_seed
            progress.update(done)
    path = options.out / f"{plan.name}.npz"
    with one_thread():
        table = assemble(parts, plan)
    write_table(path, table)
    return path


def _record(task: tuple[Path, Plan, int]) -> None:
    with one_thread():
        record_part(*task)


def part_path(parts: Path, seed: int) -> Path:
    """Where the arrays of a seed are kept until the table is whole."""
    return parts / f"seed-{seed}.npz"


def record_part(parts: Path, plan: Plan, seed: int) -> None:
    """Trains all runs of a seed and keeps their figures."""
    arrays = record_fixed(plan.env, seed, plan.together)
    if plan.n_sweeps:
        arrays |= record_tree(plan.env, plan.n_sweeps, seed)
    fingerprint = np.frombuffer(plan.fingerprint.encode(), dtype=np.uint8)
    path = part_path(parts, seed)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, fingerprint=fingerprint, **arrays)  # type: ignore[arg-type]


def read_part(parts: Path, plan: Plan, seed: int) -> Arrays | None:
    """The arrays of a seed; None if they aren't there or belong to another plan.

    Raises:
        DamagedFile: If they can't be read.
    """
    path = part_path(parts, seed)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = {key: kept[key] for key in kept.files}
        fingerprint = arrays.pop("fingerprint").tobytes().decode()
    except Exception as error:  # ZIP and NumPy raise many kinds, by what is wrong where
        raise DamagedFile(
            f"{path} is damaged: {error!r:.200}; remove it, and its seed is trained again"
        ) from error
    return arrays if fingerprint == plan.fingerprint else None


def assemble(parts: Path, plan: Plan) -> Table:
    """The table of all seeds of a plan, which must be there."""
    by_seed = []
    for seed in plan.seeds:
        arrays = read_part(parts, plan, seed)
        assert arrays is not None
        by_seed.append(arrays)
    seeds = {"train": list(plan.train), "held-out": list(plan.held_out)}
    stacked = {key: np.stack([arrays[key] for arrays in by_seed]) for key in by_seed[0]}
    points = np.array(config_points(plan.env), dtype=np.int64)
    return Table(plan.name, _facts(plan), seeds, points, stacked)


def _facts(plan: Plan) -> dict[str, Any]:
    from tiegym.training.trainer import Trainer

    config = plan.env
    corpus = load_corpus(config.corpus, config.tokenizer)
    trainer = Trainer(config, corpus)
    sizes = range(1, config.n_layer + 1)
    text = NAME.fullmatch(plan.name)
    assert text is not None
    return {
        "n_sweeps": plan.n_sweeps,
        # A file's or folder's path means something on one machine alone: the table's word stands
        # for it.
        "config": dataclasses.asdict(config)
        | ({"corpus": text[4]} if Path(config.corpus).exists() else {}),
        "vocab_size": corpus.vocab_size,
        "bytes_per_token": {
            "validation": corpus.bytes_per_token("validation"),
            "test": corpus.bytes_per_token("test", config.test_tokens, config.block_size),
        },
        "params": [trainer.trainable_params(n) for n in sizes],
        "model_state_bytes": [trainer.expected_state_bytes(n) for n in sizes],
        "corpus_sha256": corpus.sha256,
        "versions": provenance.versions(),
        "threads": 1,
        "cpu": this_cpu(),
        "arithmetic": arithmetic(config),
        "fixed_runs": "together" if plan.together else "alone",
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def this_cpu() -> str:
    """The processor and the instructions that PyTorch uses of it: others round otherwise."""
    import torch

    name = provenance.device_facts("cpu")["device_name"]
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def main(args: Sequence[str] | None = None) -> None:
    """Runs the program."""
    options = read_command_line(
        Options,
        "tiegym.bench.make",
        __doc__,
        default=Options(table=tyro.MISSING),
        args=sys.argv[1:] if args is None else list(args),
    )
    with long_work():
        path = make(options)
    say(f"table: {path}", sys.stdout)


if __name__ == "__main__":
    main()
