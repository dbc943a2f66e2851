"""A GPT-2 of the library `transformers` under tiegym, over the same model in a bare loop.

Seconds of training iterations, without the environment's evaluation. Both sides take batches of the
same data, and have the same optimiser and clipping; the bare loop is what one would write without
ties. Beside it stand our own GPT of the same sizes, and owner gradients of two independent layers.

python -m benchmarks.library_models
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks import timing
from benchmarks.private_cost import cost
from benchmarks.program import environment, run_benchmark
from benchmarks.timing import paired_ratio
from tiegym import TieEnv
from tiegym.data.tasks.task import cross_entropy
from tiegym.runs.input_errors import at_least
from tiegym.training.one_thread import one_thread
from tiegym.transformer.pretrained import TiedPretrainedModel


@dataclass(frozen=True)
class Options:
    """Measure a model of transformers."""

    n_layer: int = 12
    """Its layers."""
    n_embd: int = 128
    """Their width."""
    block_size: int = 128
    """Tokens of a row."""
    repeats: int = 15
    """Pairs of measurements for each ratio."""
    iterations: int = 4
    """Training iterations of a measurement."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 2, "repeats")
        at_least(self, 1, "iterations")


def start(options: Options, **changes: Any) -> TieEnv:
    """An environment whose transformer has its first weights."""
    env = environment(
        n_layer=options.n_layer,
        n_embd=options.n_embd,
        block_size=options.block_size,
        max_iters=1_000_000,
        device=options.device,
        dtype="float32",
        **changes,
    )
    env.reset(seed=0)
    assert env.model is not None  # made now
    return env


def trained(options: Options, env: TieEnv) -> Callable[[], float]:
    """What trains an environment's transformer and returns its seconds."""
    return lambda: cost(lambda: env._trainer.train(options.iterations))


def bare(options: Options, env: TieEnv) -> Callable[[], float]:
    """The same of a plain copy of an environment's library model, in a plain loop."""
    assert isinstance(env.model, TiedPretrainedModel)
    config, data = env.config, env._trainer.workload.data
    theirs = env.model.library
    model: Any = type(theirs)(copy.deepcopy(theirs.config))
    model.to(env.model.device)
    model.load_state_dict(theirs.state_dict())
    model.train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )
    generator = torch.Generator(env.model.device).manual_seed(0)
    sample: Any = data.sample

    def iterate() -> None:
        for _ in range(options.iterations):
            inputs, targets = sample("train", config.batch_size, generator)
            optimizer.zero_grad(set_to_none=True)
            loss = cross_entropy(model(**inputs, use_cache=False).logits, targets)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
            optimizer.step()

    return lambda: cost(iterate)


def run(options: Options) -> None:
    """Prints every ratio with its quartiles; on a CPU with one thread, since others just wait."""
    with one_thread():
        print_ratios(options)


def print_ratios(options: Options) -> None:
    """Prints the table, with as many threads as there are."""
    timing.title("A GPT-2 of transformers, training", "benchmarks.library_models")
    timing.header(*timing.RATIO_COLUMNS)
    env = start(options, model="gpt2", initial_ties="independent")
    whole = trained(options, env)
    two = trained(options, start(options, model="gpt2", initial_ties="cycle:2"))
    ours = trained(options, start(options, initial_ties="independent"))
    for name, work, other, aim in (
        ("all independent / a bare loop", whole, bare(options, env), "<= 1.05"),
        ("cycle:2, owner gradients / all independent", two, whole, "<= 0.85"),
        ("transformers' / our own GPT, all independent", whole, ours, ""),
    ):
        timing.ratio_row(name, paired_ratio(work, other, options.repeats), aim)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.library_models", __doc__, run, argv)


if __name__ == "__main__":
    main()
