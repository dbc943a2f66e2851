"""Time and peak memory of a training iteration at paper scale; a GPU's job, one command.

Each setting runs in a process of its own, so that its peak is its own; each row is printed as
soon as it is measured. Without a GPU give toy sizes: then the peak is the process's, PyTorch
included, and only shows that the program runs.

python -m benchmarks.paper_scale
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from benchmarks import timing
from benchmarks.paper_memory import GPT2_XL, Setting, peak_bytes, settings
from benchmarks.plain_gpt import PlainLoop
from benchmarks.program import run_benchmark
from tiegym import ties
from tiegym.config import TieConfig
from tiegym.data.corpora import Corpus
from tiegym.data.tokenization import Tokenizer
from tiegym.runs.input_errors import InputError, as_input_errors, at_least
from tiegym.training.resolve import resolve_device
from tiegym.training.step_stats import peak_memory, reset_peak_memory
from tiegym.training.trainer import Trainer
from tiegym.transformer.block import Shape

ALL_ON = "7 independent, owner, checkpointing"
AIMS = (
    ("model state", "state", "7 independent, owner", "plain loop", 0.20),
    ("peak memory", "peak", "7 independent, owner", "plain loop", 0.40),
    ("peak, checkpointing on both sides", "peak", ALL_ON, "plain loop, checkpointing", 0.30),
    ("peak, everything on against a plain loop", "peak", ALL_ON, "plain loop", 0.15),
    ("time an iteration", "seconds", "7 independent, owner", "plain loop", 0.72),
)
"""What is aimed at: a name, the figure, whose, against whose, at most how much of it."""


@dataclass(frozen=True)
class Options:
    """Measure training at paper scale."""

    n_layer: int = GPT2_XL.n_layer
    """Transformer blocks."""
    n_head: int = GPT2_XL.n_head
    """Attention heads."""
    n_embd: int = GPT2_XL.n_embd
    """Width of the residual stream."""
    block_size: int = GPT2_XL.block_size
    """Context length in tokens."""
    vocab_size: int = GPT2_XL.vocab_size
    """Token ids."""
    batch_size: int = 16
    """Sequences."""
    dropout: float = 0.0
    """Its probability; the paper's is 0.2."""
    dtypes: tuple[Literal["float32", "bfloat16-mixed", "bfloat16"], ...] = (
        "bfloat16-mixed",
        "bfloat16",
    )
    """Precisions, as in TieEnv."""
    iterations: int = 10
    """Measured iterations, after 3 to warm up."""
    minutes: float = 8.0
    """Settings that didn't begin by then are left out."""
    device: str = "auto"
    """auto, cpu or cuda."""
    only: str | None = None
    """Measure one setting, given as JSON, in this process; for the program's own use."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 1, "n_layer", "n_head", "n_embd", "block_size", "vocab_size")
        at_least(self, 1, "batch_size", "iterations")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout} must be in [0, 1)")
        with as_input_errors():
            resolve_device(TieConfig(device=self.device).device)

    @property
    def shape(self) -> Shape:
        """The sizes of the transformer."""
        return Shape(self.vocab_size, self.n_layer, self.n_head, self.n_embd, self.block_size)


def measure(options: Options, setting: Setting, dtype: str) -> dict[str, float]:
    """Median seconds an iteration, peak bytes, and bytes of model state, in this process.

    Both sides train on the same random tokens: what they are doesn't matter for cost.
    """
    device = resolve_device(options.device)
    make = _plain if setting.n_independent == 0 else _tiegym
    iterate, parameters, optimizer = make(options, setting, dtype, device)
    iterate(3)
    reset_peak_memory(device)
    seconds = [timing.seconds(lambda: iterate(1)) for _ in range(options.iterations)]
    tensors = [t for p in parameters() for t in (p, p.grad)]
    tensors += [t for state in optimizer.state.values() for t in state.values()]
    (peak,) = peak_memory(device).values()
    return {
        "seconds": float(np.median(seconds)),
        "peak": peak,
        "state": sum(t.numel() * t.element_size() for t in tensors if t is not None),
    }


Loop = tuple[Callable[[int], object], Callable[[], list[torch.nn.Parameter]], torch.optim.Optimizer]


def _tokens(options: Options) -> np.ndarray:
    length = 4 * options.batch_size * options.block_size
    return np.random.default_rng(0).integers(options.vocab_size, size=length)


def _plain(options: Options, setting: Setting, dtype: str, device: torch.device) -> Loop:
    loop = PlainLoop(
        options.shape,
        _tokens(options),
        options.batch_size,
        dtype,
        device,
        options.dropout,
        setting.checkpoint,
    )
    return loop.iterate, lambda: list(loop.model.parameters()), loop.optimizer


def _tiegym(options: Options, setting: Setting, dtype: str, device: torch.device) -> Loop:
    config = TieConfig(
        n_layer=options.n_layer,
        n_head=options.n_head,
        n_embd=options.n_embd,
        block_size=options.block_size,
        batch_size=options.batch_size,
        dropout=options.dropout,
        tie_grad="sum" if setting.tie_grad == "sum" else "owner",
        checkpoint_activations=setting.checkpoint,
        loss_chunk=None if setting.chunked else 0,
        dtype=dtype,  # type: ignore[arg-type]
        device=str(device),
        eval_batches=1,
    )
    tokens = _tokens(options)
    tokenizer = Tokenizer("random", options.vocab_size)
    splits = dict.fromkeys(("train", "validation", "test"), tokens)
    n_bytes = dict.fromkeys(splits, len(tokens))
    trainer = Trainer(config, Corpus("random", tokenizer, "", n_bytes=n_bytes, **splits))
    trainer.reset(0, ties.pattern(f"cycle:{setting.n_independent}", options.n_layer))
    return trainer.train, lambda: list(trainer.model.parameters()), trainer.optimizer


def run(options: Options) -> None:
    """Prints a row for each setting and precision; ratios are against the plain loop."""
    begin = time.monotonic()
    timing.title(f"Paper scale: {options.shape}", "benchmarks.paper_scale")
    gpu = resolve_device(options.device).type == "cuda"
    peak = "peak allocated" if gpu else "peak of the process"
    columns = ("setting", "dtype", "state, GB", "ratio", f"{peak}, GB", "ratio")
    timing.header(*columns, "calculated, GB", "ratio", "ms", "ratio")
    measured: dict[tuple[str, str], dict[str, float]] = {}
    for dtype in options.dtypes:
        first: dict[str, float] = {}
        for setting in settings(options.n_layer):
            if time.monotonic() - begin > 60 * options.minutes:
                timing.row((setting.name, dtype, "left out: out of time", *[""] * 7))
                continue
            made = _in_a_process_of_its_own(options, setting, dtype)
            if isinstance(made, str):
                timing.row((setting.name, dtype, made, *[""] * 7))
                continue
            calculated = peak_bytes(
                options.shape, options.batch_size, setting, dtype, options.dropout
            )
            measured[dtype, setting.name] = made
            made["calculated"] = calculated["peak"]
            if setting.name == "plain loop":
                first = made
            cells = [setting.name, dtype]
            for name, unit in (("state", 1e-9), ("peak", 1e-9), ("calculated", 1e-9)):
                cells += [f"{made[name] * unit:.3f}", _ratio(made, first, name)]
            cells += [f"{1000 * made['seconds']:.1f}", _ratio(made, first, "seconds")]
            timing.row(cells)
    print()
    timing.header("aim", "dtype", "ratio", "at most")
    for name, figure, ours, theirs, most in AIMS:
        for dtype in options.dtypes:
            if (dtype, ours) in measured and (dtype, theirs) in measured:
                ratio = measured[dtype, ours][figure] / measured[dtype, theirs][figure]
                timing.row((name, dtype, f"{ratio:.3f}", f"{most:.2f}"))


def _ratio(made: dict[str, float], first: dict[str, float], name: str) -> str:
    return f"{made[name] / first[name]:.3f}" if first else ""


def _in_a_process_of_its_own(
    options: Options, setting: Setting, dtype: Literal["float32", "bfloat16-mixed", "bfloat16"]
) -> dict[str, float] | str:
    """What `measure` returns, or why it didn't."""
    arguments = [sys.executable, "-m", "benchmarks.paper_scale"]
    for field in dataclasses.fields(options):
        if field.name not in ("dtypes", "only"):
            arguments += ["--" + field.name.replace("_", "-"), str(getattr(options, field.name))]
    arguments += ["--dtypes", dtype, "--only", json.dumps(dataclasses.asdict(setting))]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        return f"failed: {last[:160]}".replace("|", "/")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_or_measure(options: Options) -> None:
    """Measures all settings, or the one of `only`."""
    if options.only is None:
        run(options)
    else:
        setting = Setting(**json.loads(options.only))
        print(json.dumps(measure(options, setting, options.dtypes[0])))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.paper_scale", __doc__, run_or_measure, argv)


if __name__ == "__main__":
    main()
