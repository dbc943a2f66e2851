"""Where each millisecond of an env step goes, and what is left to gain.

Times the parts of real steps by wrapping the functions that do them, waiting for a GPU after
each. The floor is the floating-point operations of the matrix products and of attention over the
fastest rate of a large matrix product measured on the same device.

python -m benchmarks.breakdown
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from benchmarks import timing
from benchmarks.program import environment, run_benchmark
from tiegym import TieEnv
from tiegym import env as tiegym_env
from tiegym.runs.input_errors import at_least
from tiegym.transformer.block import Shape


@dataclass(frozen=True)
class Options:
    """Profile one env step."""

    device: str = "auto"
    """auto, cpu or cuda."""
    repeats: int = 15
    """Steps; medians are printed."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 1, "repeats")


def operations(shape: Shape, tokens: int, trained: int) -> float:
    """Floating-point operations of matrix products and attention, forward and backward.

    A multiplication and an addition are two. Attention is causal: half of the T x T products.

    Args:
        shape: Of the transformer.
        tokens: Tokens of the batch; sequences are `block_size` long.
        trained: Layers whose weights get a gradient; -1 is a forward pass alone.
    """
    c, t = shape.n_embd, shape.block_size
    matrices, attention, head = 24 * c**2, 2 * t * c, 2 * shape.vocab_size * c
    forward = shape.n_layer * (matrices + attention) + head
    if trained < 0:
        return tokens * forward
    inputs = shape.n_layer * (matrices + 2 * attention) + head
    return tokens * (forward + inputs + trained * matrices + head)


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of the fastest of some square matrix products."""
    n = 8192 if device.type == "cuda" else 1024
    a = torch.randn(n, n, device=device, dtype=dtype)
    best = min(timing.seconds(lambda: a @ a) for _ in range(30))
    return 2 * n**3 / best


class Clock:
    """Adds up seconds by name; time inside a nested part counts for that part alone."""

    def __init__(self) -> None:
        """Starts at zero."""
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to `name`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            timing.wait()
            begin = time.perf_counter()
            self._inner.append(0.0)
            result = function(*args, **kwargs)
            timing.wait()
            elapsed = time.perf_counter() - begin
            self.seconds[name] += elapsed - self._inner.pop()
            if self._inner:
                self._inner[-1] += elapsed
            return result

        return call


def parts_of_a_step(env: TieEnv, action: Any) -> dict[str, float]:
    """Seconds of each part of one env step; the env has made its first step already."""
    trainer, model, clock = env._trainer, timing.our_model(env), Clock()
    training = clock.wrapped("forward pass and loss", model.loss)
    evaluation = clock.wrapped("evaluation", model.loss)

    def loss(*arguments: Any) -> torch.Tensor:
        result: torch.Tensor = (training if model.training else evaluation)(*arguments)
        return result

    with ExitStack() as stack:
        stack.enter_context(patch.object(model, "loss", loss))
        for owner, attribute, name in (
            (trainer, "retie", "tie change"),
            (trainer.workload.data, "sample", "batches"),
            (trainer, "train", "training loop itself"),
            (trainer, "validate", "evaluation"),
            (torch.Tensor, "backward", "backward pass"),
            (torch.nn.utils, "clip_grad_norm_", "gradient clipping"),
            (trainer.optimizer, "step", "AdamW"),
            (trainer.optimizer, "zero_grad", "freeing gradients"),
            (tiegym_env, "sample_weights", "layer_stats"),
            (tiegym_env, "layer_stats", "layer_stats"),
        ):
            wrapped = clock.wrapped(name, getattr(owner, attribute))
            stack.enter_context(patch.object(owner, attribute, wrapped))
        clock.wrapped("everything else", env.step)(action)
    return clock.seconds


def profile(name: str, options: Options, **config: Any) -> None:
    """Prints the table of one configuration."""
    env = environment(action="joint", max_iters=100_000, device=options.device, **config)
    env.reset(seed=0)
    action = env.ties[1:]
    env.step(action)
    env.step(action)
    whole = []
    samples: dict[str, list[float]] = defaultdict(list)
    for _ in range(options.repeats):
        whole.append(timing.seconds(lambda: env.step(action)))
        for part, seconds in parts_of_a_step(env, action).items():
            samples[part].append(seconds)
    parts = {part: statistics.median(seconds) for part, seconds in samples.items()}
    step = statistics.median(whole)
    model, c = timing.our_model(env), env.config
    rate = matrix_rate(model.token_embedding.device, model.compute_dtype)
    tokens = c.batch_size * c.block_size
    trained = len(set(model.roots)) if c.tie_grad == "owner" else c.n_layer
    floor_training = c.iters_per_step * operations(model.shape, tokens, trained) / rate
    floor_evaluation = operations(model.shape, c.eval_batches * tokens, -1) / rate
    floor = floor_training + floor_evaluation
    print(f"\n{name}: a step takes {1000 * step:.1f} ms. The floor is {1000 * floor:.1f} ms")
    print(f"({floor / step:.0%}): its matrix products at {rate / 1e9:.0f} GFLOP/s.\n")
    timing.header("part", "ms a step", "share")
    total = sum(parts.values())
    for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        timing.row((part, f"{1000 * seconds:.2f}", f"{seconds / total:.1%}"))


def run(options: Options) -> None:
    """Profiles the default environment, and 12 layers with a vocabulary of 8k."""
    timing.title("Where an env step's time goes", "benchmarks.breakdown")
    profile("Defaults, all tied (owner)", options)
    profile(
        "12 layers, 2 independent (owner), vocabulary of 8k",
        options,
        n_layer=12,
        initial_ties="cycle:2",
        tokenizer="bpe-8192",
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.breakdown", __doc__, run, argv)


if __name__ == "__main__":
    main()
