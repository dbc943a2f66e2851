"""Peak memory of a training iteration as a calculation from sizes, before any GPU measures it.

Two moments compete for the peak: the loss (weights, moments, casts, everything kept for the
backward pass, and what the loss itself needs) and the end of the backward pass (weights, moments,
gradients). The tests compare the calculated activations with what autograd really keeps.

python -m benchmarks.paper_memory
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from benchmarks import timing
from benchmarks.program import run_benchmark
from tiegym.runs.input_errors import InputError, at_least
from tiegym.training.resolve import resolve_loss_chunk
from tiegym.transformer.block import Shape

GPT2_XL = Shape(vocab_size=50_257, n_layer=48, n_head=16, n_embd=1600, block_size=256)
"""The paper's transformer."""
FLOAT32, BFLOAT16 = 4, 2  # bytes a number


@dataclass(frozen=True)
class Setting:
    """One way to train."""

    name: str
    n_independent: int
    """Independent layers; 0 is a plain loop without tiegym, all layers independent."""
    tie_grad: str = "owner"
    checkpoint: bool = False
    chunked: bool = True
    """Whether the loss never holds all logits; never in the plain loop."""


def settings(n_layer: int) -> list[Setting]:
    """What is compared; the plain loops come first, since ratios are against them."""
    few = min(7, n_layer)  # of the paper's 6 to 10
    return [
        Setting("plain loop", 0, chunked=False),
        Setting("plain loop, checkpointing", 0, checkpoint=True, chunked=False),
        Setting("independent", n_layer),
        Setting(f"{few} independent, owner, all logits", few, chunked=False),
        Setting(f"{few} independent, owner", few),
        Setting(f"{few} independent, sum", few, "sum"),
        Setting("all tied, owner", 1),
        Setting(f"{few} independent, owner, checkpointing, all logits", few, "owner", True, False),
        Setting(f"{few} independent, owner, checkpointing", few, checkpoint=True),
    ]


def activation_bytes(
    shape: Shape, batch_size: int, setting: Setting, number: int, mixed: bool, dropout: bool
) -> int:
    """Bytes that the blocks keep for the backward pass.

    Counted in widths C a token. A layer that trains its weights keeps 16: its input, two norms'
    outputs, queries, keys and values (3), the attention's output, the stream between its halves,
    the MLP's hidden layer before and after GELU (4 + 4). With constant weights, the inputs of the
    four matrices aren't kept (6 fewer; the attention's output stays, its own backward pass needs
    it). Under autocast (a plain loop, mixed) the residual stream is float32: 2 more.

    Args:
        shape: Of the transformer.
        batch_size: Sequences.
        setting: How it trains.
        number: Bytes of a number of the activations.
        mixed: Whether weights are float32 and computation is bfloat16.
        dropout: Whether two masks of a byte an element are kept.
    """
    tokens = batch_size * shape.block_size
    plain = setting.n_independent == 0
    stream = 2 if plain and mixed else 1
    statistics = 4 * FLOAT32 + shape.n_head * FLOAT32  # of two norms, and the attention's
    masks = 2 * shape.n_embd if dropout else 0

    def layer(widths: int) -> int:
        return tokens * (widths * shape.n_embd * number + statistics + masks)

    trained = layer(14 + 2 * stream)
    constant = layer(10)
    if setting.checkpoint:  # each input; one layer at a time is computed again
        return shape.n_layer * tokens * stream * shape.n_embd * number + trained
    n_trained = setting.n_independent
    if plain or setting.tie_grad == "sum":
        n_trained = shape.n_layer
    return n_trained * trained + (shape.n_layer - n_trained) * constant


def loss_bytes(
    shape: Shape, tokens: int, setting: Setting, number: int, mixed: bool, chunk: int
) -> int:
    """Bytes that the loss needs at its worst moment, gradients of logits included."""
    if not setting.chunked:  # logits, the same in float32, and their log-softmax
        return tokens * shape.vocab_size * (number + 2 * FLOAT32)
    chunk = min(chunk, tokens)
    head = shape.vocab_size * shape.n_embd
    logits = chunk * shape.vocab_size
    product = logits * number + head * number  # of the head's gradient, one chunk's
    if number == FLOAT32:  # in place
        product = 0
    total = head * FLOAT32 + max(logits * (number + FLOAT32), product)
    return total + tokens * shape.n_embd * number + (head * number if mixed else 0)


def peak_bytes(
    shape: Shape, batch_size: int, setting: Setting, dtype: str, dropout: float
) -> dict[str, int]:
    """Calculated bytes: `state` (weights, gradients, moments), `activations`, `loss`, `peak`.

    Args:
        shape: Of the transformer.
        batch_size: Sequences.
        setting: How it trains.
        dtype: As in `TieConfig`.
        dropout: Its probability.
    """
    mixed = dtype == "bfloat16-mixed"
    number = FLOAT32 if dtype == "float32" else BFLOAT16
    weight = BFLOAT16 if dtype == "bfloat16" else FLOAT32
    plain = setting.n_independent == 0
    n_independent = shape.n_layer if plain else setting.n_independent
    weights = shape.params(n_independent) * weight
    casts = 0
    if mixed:
        cast_blocks = 1 if setting.checkpoint and not plain else n_independent
        casts = cast_blocks * shape.block_params * BFLOAT16
    tokens = batch_size * shape.block_size
    activations = activation_bytes(shape, batch_size, setting, number, mixed, dropout > 0)
    gpu_chunk = resolve_loss_chunk(None, shape.vocab_size, torch.device("cuda")) or tokens
    loss = loss_bytes(shape, tokens, setting, number, mixed, gpu_chunk)
    embedding = shape.vocab_size * shape.n_embd * weight  # the lookup's gradient, before it adds
    at_loss = 3 * weights + casts + activations + loss
    at_end = 4 * weights + casts + embedding
    return {
        "state": 4 * weights,
        "activations": activations,
        "loss": loss,
        "peak": max(at_loss, at_end),
    }


@dataclass(frozen=True)
class Options:
    """Calculate the memory of the paper's transformer."""

    batch_size: int = 16
    """Sequences."""
    dropout: float = 0.0
    """Its probability; the paper's is 0.2."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 1, "batch_size")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout={self.dropout} must be in [0, 1)")


def run(options: Options) -> None:
    """Prints the calculation for both precisions."""
    timing.title("Memory at paper scale, calculated", "benchmarks.paper_memory")
    timing.header(
        "setting", "dtype", "state, GB", "ratio", "activations", "loss", "peak, GB", "ratio"
    )
    for dtype in ("bfloat16-mixed", "bfloat16"):
        reference: dict[str, int] = {}
        for setting in settings(GPT2_XL.n_layer):
            made = peak_bytes(GPT2_XL, options.batch_size, setting, dtype, options.dropout)
            reference = reference or made
            gigabytes = {name: f"{value / 1e9:.2f}" for name, value in made.items()}
            timing.row(
                (
                    setting.name,
                    dtype,
                    gigabytes["state"],
                    f"{made['state'] / reference['state']:.3f}",
                    gigabytes["activations"],
                    gigabytes["loss"],
                    gigabytes["peak"],
                    f"{made['peak'] / reference['peak']:.3f}",
                )
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the program."""
    run_benchmark(Options, "benchmarks.paper_memory", __doc__, run, argv)


if __name__ == "__main__":
    main()
