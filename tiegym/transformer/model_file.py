"""Exported models: files that load without the environment, and where runs keep them.

What such a file looks like is in `tiegym.transformer.tensor_file`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tiegym.data.tasks.images import Standardisation
from tiegym.transformer.fork_safety import fork_safe
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.gpt_file import COMPUTE_DTYPES, check_gpt, gpt_of, gpt_values
from tiegym.transformer.isolation import isolated
from tiegym.transformer.library_file import (
    check_library_values,
    embedded_tokens,
    library_tensors,
    library_values,
    load_library_model,
    standardisation_of,
)
from tiegym.transformer.pretrained import TiedPretrainedModel
from tiegym.transformer.small_form import small_form
from tiegym.transformer.tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    from tiegym.data.tokenization import Tokenizer


@isolated
def export_model(
    path: str | Path,
    model: TiedTransformer | TiedPretrainedModel,
    tokenizer: Tokenizer | None,
    images: Standardisation | None = None,
) -> None:
    """Writes a model for use without the environment: each weight once, ties, sizes, tokenizer.

    Args:
        path: Of the file.
        model: One of the two kinds.
        tokenizer: What its tokens mean; None for images.
        images: How these were standardised; None for texts.

    Raises:
        ValueError: If it is of the library `transformers`, and of no class that a task trains.
    """
    told = None if tokenizer is None else tokenizer.to_json()
    if isinstance(model, TiedPretrainedModel):
        values = library_values(model) | {"tokenizer": told}
        if images is not None:
            values["images"] = {"mean": images.mean, "deviation": images.deviation}
        write_tensors(path, "model", library_tensors(model), values)
        return
    values = gpt_values(model) | {"tokenizer": told}
    write_tensors(path, "model", small_form(model), values)


@fork_safe
@isolated
def load_model(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> TiedTransformer | TiedPretrainedModel:
    """Loads an exported model, in evaluation mode; of quantised weights, the rounded ones.

    Our own gives logits (B, T, V) for tokens (B, T): `model(tokens)`. One of the library
    `transformers` takes and gives what the library's does: `model(input_ids=tokens).logits`.

    Args:
        path: What `TieEnv.export` wrote.
        device: Where to.
        dtype: Of the computation; None is that of training, which gives the logits of the trained
            model. After training in mixed precision, whose weights are float32,
            `dtype=torch.float32` computes with all of their digits.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or not an exported model.
        ImportError: If the model is of a library that isn't installed.
    """
    tensors, values = read_tensors(path, "model", partial(_check_model, path))
    compute_dtype = dtype or COMPUTE_DTYPES[values["compute_dtype"]]
    if "library" in values:
        return load_library_model(values, tensors, device, compute_dtype)
    try:
        return gpt_of(values, tensors, device, compute_dtype)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error


@fork_safe
def load_gpt(path: str | Path) -> TiedTransformer:
    """Loads an exported model of our own kind, as `load_model`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or of another kind.
    """
    model = load_model(path)
    if not isinstance(model, TiedTransformer):
        raise ValueError(
            f"{str(path)!r} is of the library transformers: what is asked for knows only models "
            'that were trained with model="gpt"'
        )
    return model


def _check_model(path: str | Path, values: Any, tensors: dict[str, Tensor]) -> None:
    """Checks each value of an exported model, and that its tensors are those that they ask for."""
    try:
        if not isinstance(values, dict):
            raise ValueError("its values are no dictionary")
        if values["compute_dtype"] not in list(COMPUTE_DTYPES):
            raise ValueError(
                f"compute_dtype={values['compute_dtype']!r} is none of {', '.join(COMPUTE_DTYPES)}"
            )
        if "library" in values:
            if not isinstance(values["tokenizer"], str | None):
                raise ValueError("its tokenizer is no text")
            check_library_values(values, tensors)
        else:
            check_gpt(values, tensors)
    except KeyError as error:
        raise ValueError(f"{str(path)!r} is damaged: it has no {error}") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of an exported model; raises as `load_model` does, and if it has none."""
    tokenizer = read_tokenizer(path)
    if tokenizer is None:
        raise ValueError(f"{str(path)!r} has no tokenizer: its model sees images")
    return tokenizer


@isolated
def read_tokenizer(path: str | Path) -> Tokenizer | None:
    """The same; None if the model sees images."""
    from tiegym.data import tokenization

    _, values = read_tensors(path, "model", partial(_check_model, path))
    if values["tokenizer"] is None:
        return None
    tokenizer = tokenization.from_json(values["tokenizer"])
    if "library" in values:  # it may have more: special tokens, whose ids lie above
        least, have = tokenizer.vocab_size, embedded_tokens(values)
    else:
        least, have = values["shape"]["vocab_size"], values["shape"]["vocab_size"]
    if not least <= tokenizer.vocab_size <= have:
        raise ValueError(
            f"{str(path)!r} is damaged: its tokenizer has {tokenizer.vocab_size} tokens, its model "
            f"{have}"
        )
    return tokenizer


@isolated
def read_standardisation(path: str | Path) -> Standardisation | None:
    """How the images were standardised that an exported model saw; None if it saw none.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or not an exported model.
    """
    _, values = read_tensors(path, "model", partial(_check_model, path))
    return standardisation_of(values)


MODEL_FILE = "model.safetensors"
"""The exported model in a run folder."""


def find_model(path: Path) -> Path:
    """The file with the exported model of a run.

    Args:
        path: The run folder, or the file itself.

    Raises:
        FileNotFoundError: If there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such run folder or file")
    if not (path / MODEL_FILE).is_file():
        raise FileNotFoundError(
            f"{path} holds no {MODEL_FILE}: a run keeps its model only if its program is run "
            "with --export, and not before the end of its first episode"
        )
    return path / MODEL_FILE
