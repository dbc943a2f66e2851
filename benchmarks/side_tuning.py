"""What it takes to train a trained model on: all of it, its norms, or a side network beside it.

What autograd keeps for the backward pass of an iteration is counted exactly, on any device: the
bytes of all tensors that it saves but weights, each memory once. On a GPU the peak of its allocator
stands beside it.

python -m benchmarks.side_tuning
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.frozen_model import all_frozen, env_of
from benchmarks import timing
from benchmarks.program import environment, run_benchmark
from benchmarks.timing import quartiles
from tiegym import TieEnv
from tiegym.policies.fixed import FixedTies
from tiegym.runs.input_errors import at_least
from tiegym.training.frozen_workload import FrozenWorkload
from tiegym.training.gpt_workload import GPTWorkload
from tiegym.training.one_thread import one_thread
from tiegym.transformer.ladder import LadderTransformer

FULL, NORMS, LADDER = "all of it", "norms-only", "ladder"


@dataclass(frozen=True)
class Options:
    """Measure what training a trained model on takes."""

    pattern: str = "cycle:2"
    """Ties of the model."""
    n_layer: int = 6
    """Its layers."""
    n_embd: int = 128
    """Its width."""
    block_size: int = 128
    """Its context in tokens."""
    reduction: int = 8
    """How much narrower the side network is."""
    repeats: int = 15
    """Iterations of each that are timed, in turn."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 2, "repeats")
        at_least(self, 1, "reduction")


def environments(options: Options, folder: Path) -> dict[str, tuple[TieEnv, Any]]:
    """An environment for each way, that goes on from the same model, and the action that stays."""
    model = environment(
        n_layer=options.n_layer,
        n_embd=options.n_embd,
        block_size=options.block_size,
        initial_ties=options.pattern,
        tie_grad="sum",
        corpus="synthetic:200000",
        iters_per_step=1,
        max_iters=1_000_000,
        device=options.device,
    )
    config = model.config
    model.reset(seed=0)
    model.export(folder / "model.safetensors")
    file = folder / "model.safetensors"
    configs = {
        FULL: dataclasses.replace(config, initial_weights=str(file), action="joint"),
        NORMS: env_of(file, config, private="norms"),
        LADDER: env_of(file, config),
    }
    found = {}
    for name, each in configs.items():
        env = TieEnv(**dataclasses.asdict(each))
        if name == LADDER:
            kind = functools.partial(LadderTransformer, reduction=options.reduction)
            assert isinstance(env.workload, GPTWorkload)
            env.workload = FrozenWorkload(env.workload, kind)
        fixed = FixedTies(model.ties, env.action_space)
        policy = fixed if name == FULL else all_frozen(env, each)
        found[name] = env, policy.predict(env.reset(seed=0)[0])[0]
    return found


def kept_bytes(env: TieEnv, action: Any) -> int:
    """Bytes that autograd keeps for the backward pass of an iteration, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in env.model.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no memory is used twice

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        env.step(action)
    return sum(kept.values())


def run(options: Options) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder, one_thread():
        print_table(options, environments(options, Path(folder)))


def print_table(options: Options, ways: dict[str, tuple[TieEnv, Any]]) -> None:
    """Measures each way in turn, and prints a row for each."""
    infos = {name: env.step(action)[4] for name, (env, action) in ways.items()}
    kept = {name: kept_bytes(*way) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, Any] = {}
    for _ in range(options.repeats):
        for name, (env, action) in ways.items():
            env.step(action)
            seconds[name].append(float(env.step_stats["seconds_training"]))
            peaks[name] = env.step_stats.get("peak_allocated_bytes", "")
    timing.title("Training a trained model on", "benchmarks.side_tuning")
    timing.header(
        "what trains",
        "trained parameters",
        "bytes on disk",
        "bytes of model state",
        "bytes kept for the backward pass",
        "bytes at the peak of a GPU",
        f"seconds of an iteration / {FULL}: median",
        "quartiles",
    )
    for name, info in infos.items():
        ratios = [a / b for a, b in zip(seconds[name], seconds[FULL], strict=True)]
        low, median, high = quartiles(ratios)
        stored = sum(p.numel() * p.element_size() for p in ways[name][0].model.parameters())
        state = f"{stored:,} | {info['model_state_bytes']:,}"
        peak = f"{peaks[name]:,}" if peaks[name] else ""
        cells = (name, f"{info['trainable_params']:,}", state, f"{kept[name]:,}", peak)
        timing.row((*cells, f"{median:.2f}", f"{low:.2f} to {high:.2f}"))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.side_tuning", __doc__, run, argv)


if __name__ == "__main__":
    main()
