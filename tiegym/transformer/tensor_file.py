"""Files of tensors: safetensors with JSON in the header, for checkpoints and exported models.

Nothing that is loaded runs code. A file is written beside its destination and then renamed, so
that a reader sees the old file or the new one, never half of one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from tiegym.atomic_write import replacing
from tiegym.transformer.isolation import isolated

FORMAT = 2
"""Version of both formats; raised when a reader of the last version would misread a file."""

Kind = Literal["checkpoint", "model", "agent", "population"]


def as_json(value: Any) -> Any:
    """What a value becomes by way of JSON: tuples turn into lists."""
    return json.loads(json.dumps(value, allow_nan=False))


@isolated
def write_tensors(path: str | Path, kind: Kind, tensors: dict[str, Tensor], values: Any) -> None:
    """Writes tensors and JSON values as one safetensors file, atomically.

    Args:
        path: Where to; its folder is made if need be.
        kind: Stands in the header.
        tensors: By name; each gets its own copy in the file.
        values: Anything that JSON holds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = _unshared(tensors)
    text = json.dumps(values, allow_nan=False)
    header = {
        "tiegym": kind,
        "format": str(FORMAT),
        "values": text,
        "sha256": _checksum(text, tensors),
    }
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=header)
        except safetensors.SafetensorError as error:
            raise _io_error(error, path) from error


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors none of which shares memory with another, as safetensors wants them."""
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        tensor = tensor.contiguous()
        storage = tensor.untyped_storage()
        if storage.data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(storage.data_ptr())
        own[name] = tensor
    return own


@isolated
def read_tensors(
    path: str | Path, kind: Kind, check: Callable[[Any, dict[str, Tensor]], object] | None = None
) -> tuple[dict[str, Tensor], Any]:
    """Reads what `write_tensors` wrote: tensors on the CPU, and the values.

    Args:
        path: Of the file.
        kind: What it must be.
        check: Gets the values, and the tensors without their content (on the device "meta"),
            before any content is read; may raise what a file of a stranger deserves.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, not tiegym's, of another kind, or of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            _check_kind(path, header, kind)
            values = _read_values(path, header.get("values", ""))
            names = list(file.keys())
            if check is not None:
                slices = {name: file.get_slice(name) for name in names}
                check(values, {name: _without_content(path, s) for name, s in slices.items()})
            tensors = {name: file.get_tensor(name) for name in names}
    except safetensors.SafetensorError as error:
        raise ValueError(f"{str(path)!r} is damaged or no safetensors file: {error}") from error
    if header.get("sha256") != _checksum(header.get("values", ""), tensors):
        raise ValueError(f"{str(path)!r} is damaged: its content doesn't match its checksum")
    return tensors, values


def _check_kind(path: Path, header: dict[str, str], kind: Kind) -> None:
    if header.get("tiegym") != kind:
        raise ValueError(
            f"{str(path)!r} holds {header.get('tiegym', 'something foreign')!r}, not a {kind}"
        )
    if header.get("format") != str(FORMAT):
        raise ValueError(
            f"{str(path)!r} has format {header.get('format')!r}, but this tiegym reads {FORMAT}: "
            "use the version that wrote it"
        )


def _read_values(path: Path, text: str) -> Any:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is damaged: its values are no JSON: {error}") from error
    if not _is_flat(values, DEPTH):
        raise ValueError(f"{str(path)!r} is damaged: its values have more than {DEPTH} levels")
    return values


DEPTH = 16
"""Levels of lists and dictionaries in a file's values; tiegym writes 4."""


def _is_flat(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_flat(entry, depth - 1) for entry in inner)


_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16} | {
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I8": torch.int8,
    "U8": torch.uint8,
}
"""What tiegym writes, by safetensors' names."""


def _without_content(path: Path, stored: Any) -> Tensor:
    if stored.get_dtype() not in _DTYPES:
        raise ValueError(f"{str(path)!r} has a tensor of type {stored.get_dtype()}: tiegym's don't")
    dtype = _DTYPES[stored.get_dtype()]
    return torch.empty(stored.get_shape(), dtype=dtype, device="meta")


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, types, sizes and content of tensors, whatever files they came in."""
    return _checksum("", tensors)


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _io_error(error: safetensors.SafetensorError, path: Path) -> OSError:
    """What a full disk and the like are everywhere else; safetensors has its own error for it."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]) if number else errno.EIO, str(error), str(path))
