"""Sampling from a transformer, for a look at what it has learned."""

from __future__ import annotations

import torch
from torch import Tensor

from tiegym.transformer.fork_safety import fork_safe
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.isolation import isolated
from tiegym.transformer.library_config import first_position
from tiegym.transformer.pretrained import TiedPretrainedModel


@fork_safe
@isolated
@torch.no_grad()
def generate(
    model: TiedTransformer | TiedPretrainedModel,
    tokens: Tensor,
    n_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> Tensor:
    """Continues sequences token by token, without dropout.

    Each token costs a whole forward pass: enough for a look, too slow to serve a model with.

    Args:
        model: Such as `tiegym.load_model` gives; it stays in the mode in which it is. (Models of
            `transformers` have their own, faster `model.library.generate`, too.)
        tokens: What to continue, integers (B, T) with T at least 1. Only the last `block_size`
            tokens are seen.
        n_tokens: How many to append.
        temperature: Divides the logits: below 1 keeps to what is likely; 0 always takes the
            likeliest.
        top_k: Sample among so many likeliest tokens only; None is all.
        seed: The same gives the same continuation; PyTorch's global generators aren't touched.

    Returns:
        The sequences with their continuations, int64 (B, T + n_tokens), on the model's device.

    Raises:
        ValueError: If `tokens` isn't (B, T) with T at least 1, a number is out of range, or the
            model isn't one that predicts the next token.

    Examples:
        >>> import tiegym
        >>> env = tiegym.TieEnv(corpus="synthetic:40000", device="cpu")
        >>> _ = env.reset(seed=0)
        >>> text = env.corpus.tokenizer.encode("the ")
        >>> generate(env.model, torch.tensor(text)[None], n_tokens=8).shape
        torch.Size([1, 12])
    """
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError(
            f"tokens of shape {tuple(tokens.shape)} must be (B, T) with T at least 1: give a "
            "sequence a row, with something to begin with"
        )
    if n_tokens < 0:
        raise ValueError(f"n_tokens={n_tokens} must be 0 or more")
    if temperature < 0:
        raise ValueError(f"temperature={temperature} must be 0 (the likeliest token) or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k} must be at least 1, or None for all tokens")
    most = _longest(model)
    generator = torch.Generator(model.device).manual_seed(seed)
    tokens = tokens.to(model.device, torch.int64)
    training, compiled = model.training, getattr(model, "compiled", False)
    model.eval()
    if compiled:  # each number of sequences would be compiled anew, for a few tokens
        model.compiled = False
    try:
        for _ in range(n_tokens):
            logits = _logits(model, tokens if most is None else tokens[:, -most:])
            tokens = torch.cat((tokens, _choose(logits, temperature, top_k, generator)), dim=1)
    finally:
        model.train(training)
        if compiled:
            model.compiled = True
    return tokens


def _longest(model: TiedTransformer | TiedPretrainedModel) -> int | None:
    """How many tokens a model can look back on; None is any number."""
    if isinstance(model, TiedTransformer):
        return model.shape.block_size
    config = model.library.config
    if not model.library.can_generate() or config.is_encoder_decoder:
        raise ValueError(
            f"{type(model.library).__name__} doesn't predict the next token of a text: generate "
            "takes models with task=language-modeling"
        )
    longest: int | None = getattr(config, "max_position_embeddings", None)
    return None if longest is None else longest - first_position(model.library, config)


def _logits(model: TiedTransformer | TiedPretrainedModel, tokens: Tensor) -> Tensor:
    """Those of the next token, float32 (B, V)."""
    out = model(tokens)
    logits: Tensor = out if isinstance(model, TiedTransformer) else out["logits"]
    return logits[:, -1].float()


def _choose(
    logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator
) -> Tensor:
    """One token for each row of logits (B, V), int64 (B, 1)."""
    if temperature == 0:
        return logits.argmax(dim=1, keepdim=True)
    # So many values, highest first, with the tokens that they belong to; of ties no more than k.
    k = logits.shape[1] if top_k is None else min(top_k, logits.shape[1])
    values, candidates = logits.topk(k)
    # Their largest is subtracted before the division, which then overflows to nothing but 0.
    probabilities = torch.softmax((values - values[:, :1]) / temperature, dim=1)
    drawn = torch.multinomial(probabilities, 1, generator=generator)
    return candidates.gather(1, drawn)
