"""Files of tensors: checkpoints and exported models. Safetensors with JSON in the header.

Nothing that is loaded runs code. A file is written beside its destination and then renamed, so
that a reader sees the old file or the new one, never half of one.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
import safetensors
import torch
from safetensors.torch import save_file
from torch import Tensor

from tiegym.atomic_write import replacing
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.isolation import isolated

if TYPE_CHECKING:
    from tiegym.data.tokenization import Tokenizer

FORMAT = 2
"""Version of both formats; raised when a reader of the last version would misread a file."""

Kind = Literal["checkpoint", "model", "agent"]


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
def read_tensors(path: str | Path, kind: Kind) -> tuple[dict[str, Tensor], Any]:
    """Reads what `write_tensors` wrote: tensors on the CPU, and the values.

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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{str(path)!r} is damaged or no safetensors file: {error}") from error
    if header.get("tiegym") != kind:
        raise ValueError(
            f"{str(path)!r} holds {header.get('tiegym', 'something foreign')!r}, not a {kind}"
        )
    if header.get("format") != str(FORMAT):
        raise ValueError(
            f"{str(path)!r} has format {header.get('format')!r}, but this tiegym reads {FORMAT}: "
            "use the version that wrote it"
        )
    text = header.get("values", "")
    if header.get("sha256") != _checksum(text, tensors):
        raise ValueError(f"{str(path)!r} is damaged: its content doesn't match its checksum")
    return tensors, json.loads(text)


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _io_error(error: safetensors.SafetensorError, path: Path) -> OSError:
    """What a full disk and the like are everywhere else; safetensors has its own error for it."""
    number = re.search(r"os error (\d+)", str(error))
    return OSError(int(number[1]) if number else errno.EIO, str(error), str(path))


@isolated
def export_model(path: str | Path, model: TiedTransformer, tokenizer: Tokenizer) -> None:
    """Writes a model for use without the environment: each weight once, ties, sizes, tokenizer."""
    values = {
        "shape": dataclasses.asdict(model.shape),
        "ties": model.ties.tolist(),
        "tie_grad": model.tie_grad,
        "dropout": model.dropout,
        "compute_dtype": str(model.compute_dtype).removeprefix("torch."),
        "tokenizer": tokenizer.to_json(),
    }
    tensors = {name: p.detach() for name, p in model.named_parameters()}
    write_tensors(path, "model", tensors, values)


@isolated
def load_model(
    path: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None
) -> TiedTransformer:
    """Loads an exported model, in evaluation mode; `model(tokens)` gives logits (B, T, V).

    Args:
        path: What `TieEnv.export` wrote.
        device: Where to.
        dtype: Of the computation; None is that of training, which gives the logits of the trained
            model. After training in mixed precision, whose weights are float32,
            `dtype=torch.float32` computes with all of their digits.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or not an exported model.
    """
    tensors, values = read_tensors(path, "model")
    model = TiedTransformer(
        Shape(**values["shape"]),
        np.array(values["ties"]),
        tie_grad=values["tie_grad"],
        dropout=values["dropout"],
        device=device,
        dtype=tensors["token_embedding"].dtype,
        compute_dtype=dtype or getattr(torch, values["compute_dtype"]),
    )
    model.load_state_dict(tensors)
    return model.eval()


@isolated
def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of an exported model; raises as `load_model` does."""
    from tiegym.data import tokenization

    _, values = read_tensors(path, "model")
    return tokenization.from_json(values["tokenizer"])


MODEL_FILE = "model.safetensors"
"""The exported model in a run folder."""


class ExportModel(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Exports the model at the end of each episode; that of a later one takes its place.

    The end is the moment for it: whatever steps an environment may reset it at once.

    Args:
        env: A TieEnv, wrapped or not.
        path: Where to.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], path: str | Path) -> None:
        super().__init__(env)
        self.path = Path(path)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps; after the last step of an episode, also exports."""
        result = self.env.step(action)
        if result[2] or result[3]:
            self.env.unwrapped.export(self.path)  # type: ignore[attr-defined]
        return result


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
