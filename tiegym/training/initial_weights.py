"""Weights that a training run begins with, in place of drawn ones: those of an exported model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tiegym.data.tokenization import Tokenizer
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.model_file import find_model, load_gpt, load_tokenizer


def read_weights(path: str, shape: Shape, tokenizer: Tokenizer) -> TiedTransformer:
    """Reads an exported model whose weights a transformer can begin with.

    Args:
        path: A file that `TieEnv.export` wrote, or a run folder with one.
        shape: The transformer's sizes.
        tokenizer: What its tokens mean.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, of other sizes or of another tokenizer, or if something is
            private there and not in the transformer.
    """
    file = find_model(Path(path))
    source = load_gpt(file)
    theirs = source.shape
    for name in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size"):
        if getattr(theirs, name) != getattr(shape, name):
            raise ValueError(
                f"initial_weights={path!r} has {name}={getattr(theirs, name)}, but this "
                f"transformer {getattr(shape, name)}: they must be the same"
            )
    if theirs.private not in ("none", shape.private):
        raise ValueError(
            f"initial_weights={path!r} has private={theirs.private!r}, but this transformer "
            f"{shape.private!r}: give the same"
        )
    if load_tokenizer(file).sha256 != tokenizer.sha256:
        raise ValueError(
            f"initial_weights={path!r} was trained with another tokenizer: its embeddings are of "
            "other tokens; give the same"
        )
    return source


def _weights_for(
    model: TiedTransformer, source: TiedTransformer, layer: int
) -> Mapping[str, Tensor]:
    """Those of a layer as they are kept, if both keep them in one way, else as they are used."""
    if model.shape.compression != source.shape.compression:
        return source.shared_weights(layer)._asdict()
    roots = source.roots[layer :: source.n_layer]
    return {n: p for root in roots for n, p in source.independent(root).named_parameters()}


@torch.no_grad()
def take_over(model: TiedTransformer, source: TiedTransformer) -> None:
    """Gives each layer, or unit, that owns weights those that it used in another transformer.

    Where both have the same ties, or the model has none, it then computes the same; but for what
    is lost where matrices are compressed in another way than in the source. Private norms are those
    of the layer's block, where they weren't private; other private weights stay as they are, as far
    as the other one has none.

    Args:
        model: Initialised.
        source: What `read_weights` returned for its shape.
    """
    for name in ("token_embedding", "position_embedding", "final_norm_weight", "final_norm_bias"):
        model.get_parameter(name).copy_(source.get_parameter(name))
    for unit in set(model.roots):
        model.independent(unit).take_over(_weights_for(model, source, unit % model.n_layer))
    for layer, private in enumerate(model.private):
        shared, own = source.shared_weights(layer), source.private_part(layer)
        for name, p in private.named_parameters():
            if own is not None:
                p.copy_(own.get_parameter(name))
            elif name.startswith("norm"):
                p.copy_(getattr(shared, name))


@torch.no_grad()
def stacked(source: TiedTransformer, layer: int) -> TiedTransformer:
    """A transformer that applies one layer of another one at all of its positions.

    What is outside of layers, and private to positions, stays as it is.

    Args:
        source: The other one.
        layer: Which of its layers.

    Raises:
        ValueError: If it has no such layer.
    """
    if not 0 <= layer < source.n_layer:
        raise ValueError(
            f"layer={layer} must be one of the model's, from 0 to {source.n_layer - 1}"
        )
    ties = np.zeros(source.n_parts * source.n_layer, dtype=np.int64)
    like = source.token_embedding
    model = TiedTransformer(source.shape, ties, device=like.device, dtype=like.dtype)
    theirs = dict(source.named_parameters())
    for name, p in model.named_parameters():
        if not name.startswith("blocks."):
            p.copy_(theirs[name])
    for unit in set(model.roots):
        root = source.roots[unit // source.n_layer * source.n_layer + layer]
        model.independent(unit).copy_(source.independent(root))
    return model
