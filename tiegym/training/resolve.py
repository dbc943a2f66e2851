"""What a configuration stands for on this machine and with this corpus: device, dtypes, sizes.

Nothing here trains; `tiegym.training.trainer` does.
"""

from __future__ import annotations

import math

import torch

from tiegym.config import TieConfig
from tiegym.data.corpora import Corpus
from tiegym.transformer.block import Shape


def resolve_device(name: str) -> torch.device:
    """The device that a `TieConfig.device` stands for.

    Raises:
        ValueError: If this machine doesn't have it.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    count = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }[device.type]
    if (device.index or 0) >= count:
        raise ValueError(
            f"device={name!r} is not there: this machine has {count} {device.type} device(s) "
            'that PyTorch can use; device="auto" takes a GPU if there is one and else the CPU'
        )
    return device


def resolve_dtype(name: str, device: torch.device) -> tuple[torch.dtype, torch.dtype]:
    """The dtypes of weights and of computation that a `TieConfig.dtype` stands for."""
    if name == "auto":
        capable = False
        if device.type == "cuda":
            with torch.cuda.device(device):
                capable = torch.cuda.is_bf16_supported(including_emulation=False)
        name = "bfloat16-mixed" if capable else "float32"
    return {
        "float32": (torch.float32, torch.float32),
        "bfloat16-mixed": (torch.float32, torch.bfloat16),
        "bfloat16": (torch.bfloat16, torch.bfloat16),
    }[name]


def resolve_loss_chunk(chunk: int | None, vocab_size: int, device: torch.device) -> int:
    """Tokens whose logits exist at a time; 0 is all of them.

    Left to choose, vocabularies below 4,096 aren't chunked: there it gains nothing. Larger ones
    get 4 MiB of float32 logits at a time on a CPU, where they then stay in its cache, and
    128 MiB on a GPU, which needs large matrices (667 tokens of GPT-2's vocabulary).
    """
    if chunk is not None:
        return chunk
    if vocab_size < 4096:
        return 0
    numbers = 2**20 if device.type == "cpu" else 2**25
    return max(16, numbers // vocab_size)


def transformer_shape(config: TieConfig, corpus: Corpus) -> Shape:
    """The sizes of the transformer that a configuration and a corpus's vocabulary ask for."""
    sizes = (config.n_layer, config.n_head, config.n_embd, config.block_size)
    kept = (config.private, config.quantize, config.factorize)
    return Shape(corpus.vocab_size, *sizes, *kept)


def check_corpus(config: TieConfig, corpus: Corpus) -> None:
    """Checks that a corpus goes with a configuration.

    Raises:
        ValueError: If a split is smaller than a batch, or the loss of a uniform guess is above
            `divergence_loss`.
    """
    need = config.batch_size * config.block_size + 1
    for split, least in (("train", need), ("validation", need), ("test", 2)):
        have = len(getattr(corpus, split))
        if have < least:
            raise ValueError(
                f"the {split} split of corpus {corpus.name!r} has {have} tokens, but needs at "
                f"least {least} (batch_size={config.batch_size} sequences of "
                f"block_size={config.block_size}): lower these, or bring a larger corpus"
            )
    check_uniform_loss(config, math.log(corpus.vocab_size), f"ln({corpus.vocab_size}) = ")


def check_uniform_loss(config: TieConfig, loss: float, reason: str = "") -> None:
    """Checks that the loss of a uniform guess, in nats, isn't taken for a divergence.

    Raises:
        ValueError: If it is.
    """
    if config.divergence_loss <= loss:
        raise ValueError(
            f"divergence_loss={config.divergence_loss} must be above the loss of a uniform guess, "
            f"{reason}{loss:.2f} nats"
        )
