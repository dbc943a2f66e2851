"""What an exported model of our own kind says of itself beside its tensors: written, checked, read.

Models of the library `transformers` have theirs in `tiegym.transformer.library_file`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tiegym import compression as compressions
from tiegym import parts
from tiegym import private as private_parts
from tiegym.config_checks import MOST, MOST_LAYERS
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.sizes import parameter_sizes
from tiegym.transformer.small_form import full_form, stored_sizes

_LATER: dict[str, Any] = {"private": "none", "quantize": None, "factorize": None}
"""Entries of a shape that older versions didn't have, with what they stand for if not there."""

_QUANTIZED_DTYPES = (torch.float32, torch.float64)
"""Types in which an integer times a step, divided by that step, rounds to the integer again."""

COMPUTE_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
    "float16": torch.float16,
}
"""Types that a model can compute in, by the names that files have."""


def gpt_values(model: TiedTransformer) -> dict[str, Any]:
    """What a file says of a model, but for its tokenizer."""
    shape = dataclasses.asdict(model.shape)
    for name, default in _LATER.items():  # without them the file is one that any version reads
        if shape[name] == default:
            del shape[name]
    return {
        "shape": shape,
        "ties": model.ties.tolist(),
        "tie_grad": model.tie_grad,
        "dropout": model.dropout,
        "compute_dtype": str(model.compute_dtype).removeprefix("torch."),
    }


def gpt_of(
    values: dict[str, Any],
    tensors: dict[str, Tensor],
    device: torch.device | str,
    compute_dtype: torch.dtype,
) -> TiedTransformer:
    """The model of checked values and tensors, in evaluation mode.

    Raises:
        ValueError: If its quantised weights are none.
    """
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
    model.load_state_dict(full_form(tensors, shape, ties))
    return model.eval()


def check_gpt(values: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Checks what a file says of a model, and that its tensors are those that this asks for.

    Raises:
        KeyError: If a value is missing.
        ValueError: If one is damaged.
    """
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
    allowed = _QUANTIZED_DTYPES if shape.compression.bits else tuple(COMPUTE_DTYPES.values())
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
