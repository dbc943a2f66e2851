"""Exported models: files that load without the environment, and where runs keep them.

What such a file looks like is in `tiegym.transformer.tensor_file`.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tiegym import compression as compressions
from tiegym import parts
from tiegym import private as private_parts
from tiegym.config_checks import MOST, MOST_LAYERS
from tiegym.data.tasks.images import Standardisation
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer
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
from tiegym.transformer.sizes import parameter_sizes
from tiegym.transformer.small_form import full_form, small_form, stored_sizes
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
    shape = dataclasses.asdict(model.shape)
    for name, default in _LATER.items():  # without them the file is one that any version reads
        if shape[name] == default:
            del shape[name]
    values = {
        "shape": shape,
        "ties": model.ties.tolist(),
        "tie_grad": model.tie_grad,
        "dropout": model.dropout,
        "compute_dtype": str(model.compute_dtype).removeprefix("torch."),
        "tokenizer": told,
    }
    write_tensors(path, "model", small_form(model), values)


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
    compute_dtype = dtype or _COMPUTE_DTYPES[values["compute_dtype"]]
    if "library" in values:
        return load_library_model(values, tensors, device, compute_dtype)
    shape, ties = _read_shape(values["shape"]), np.array(values["ties"])
    model = TiedTransformer(
        shape,
        ties,
        tie_grad=values["tie_grad"],
        dropout=values["dropout"],
        device=device,
        dtype=tensors["token_embedding"].dtype,
        compute_dtype=compute_dtype,
    )
    try:
        model.load_state_dict(full_form(tensors, shape, ties))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error
    return model.eval()


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


_LATER: dict[str, Any] = {"private": "none", "quantize": None, "factorize": None}
"""Entries of a shape that older versions didn't have, with what they stand for if not there."""

_QUANTIZED_DTYPES = (torch.float32, torch.float64)
"""Types in which an integer times a step, divided by that step, rounds to the integer again."""

_COMPUTE_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
    "float16": torch.float16,
}


def _check_model(path: str | Path, values: Any, tensors: dict[str, Tensor]) -> None:
    """Checks each value of an exported model, and that its tensors are those that they ask for."""
    try:
        if not isinstance(values, dict):
            raise ValueError("its values are no dictionary")
        if values["compute_dtype"] not in list(_COMPUTE_DTYPES):
            raise ValueError(
                f"compute_dtype={values['compute_dtype']!r} is none of {', '.join(_COMPUTE_DTYPES)}"
            )
        if "library" in values:
            if not isinstance(values["tokenizer"], str | None):
                raise ValueError("its tokenizer is no text")
            check_library_values(values, tensors)
        else:
            _check_gpt(values, tensors)
    except KeyError as error:
        raise ValueError(f"{str(path)!r} is damaged: it has no {error}") from error
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error


def _check_gpt(values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    shape, ties = _read_shape(values["shape"]), values["ties"]
    if not isinstance(ties, list) or any(type(entry) is not int for entry in ties):
        raise ValueError(f"ties={ties!r} is no list of integers")
    n_parts = 2 if len(ties) == 2 * shape.n_layer else 1
    vector = parts.validate(ties, shape.n_layer, n_parts)
    if (owners := parts.n_independent(vector, shape.n_layer)) > len(tensors):
        raise ValueError(f"{len(tensors)} tensor(s) are no weights of {owners} layers")
    dtype = tensors["token_embedding"].dtype
    sizes = parameter_sizes(shape, vector)
    expected = stored_sizes(sizes, shape.compression.bits, dtype)
    if values["tie_grad"] not in ("owner", "sum"):
        raise ValueError(f"tie_grad={values['tie_grad']!r} is neither owner nor sum")
    if type(values["dropout"]) not in (int, float) or not 0 <= values["dropout"] < 1:
        raise ValueError(f"dropout={values['dropout']!r} is no number in [0, 1)")
    if not isinstance(values["tokenizer"], str):
        raise ValueError("its tokenizer is no text")
    allowed = _QUANTIZED_DTYPES if shape.compression.bits else tuple(_COMPUTE_DTYPES.values())
    if dtype not in allowed:
        raise ValueError(f"its weights are of type {dtype}, and not of one of {allowed}")
    have = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    if wrong := [n for n in expected.keys() | have.keys() if expected.get(n) != have.get(n)]:
        name = min(wrong)
        raise ValueError(
            f"{len(wrong)} tensor(s) don't fit its sizes, ties and types: {name} is "
            f"{have.get(name)}, but should be {expected.get(name)}"
        )


def _read_shape(values: Any) -> Shape:
    names = [field.name for field in dataclasses.fields(Shape)]
    if not isinstance(values, dict) or sorted({**_LATER, **values}) != sorted(names):
        raise ValueError(f"its shape has other entries than {', '.join(names)}")
    values = {**_LATER, **values}
    private, quantize, factorize = (values.pop(name) for name in _LATER)
    for name, value in values.items():
        most = MOST_LAYERS if name == "n_layer" else MOST
        if type(value) is not int or not 1 <= value <= most:
            raise ValueError(f"{name}={value!r} is no integer from 1 to {most}")
    if not isinstance(private, str) or str(private_parts.parse(private)) != private:
        raise ValueError(f"private={private!r} can't be")
    if not isinstance(quantize, str | None) or not isinstance(factorize, str | None):
        raise ValueError(f"quantize={quantize!r:.80} or factorize={factorize!r:.80} can't be")
    shape = Shape(**values, private=private, quantize=quantize, factorize=factorize)
    private_parts.check(shape.private_parts, shape.n_embd)
    compressions.check(shape.compression, shape.n_embd)
    if shape.n_embd % shape.n_head:
        raise ValueError(f"n_embd={shape.n_embd} is not divisible by n_head={shape.n_head}")
    return shape


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
