"""Models of the library `transformers`: what their names and configurations say. No weights.

`TieConfig` asks here when `model` isn't "gpt". The library is imported then, and not before.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from pathlib import Path
from typing import Any

from tiegym.data import hub
from tiegym.data.tasks.names import HEADS, Head

MAPPINGS: dict[Head, str] = {
    "masked-lm": "MASKED_LM",
    "causal-lm": "CAUSAL_LM",
    "image-classification": "IMAGE_CLASSIFICATION",
    "sequence-classification": "SEQUENCE_CLASSIFICATION",
    "question-answering": "QUESTION_ANSWERING",
}
"""What the library calls each output layer; by default a model gets the first that it has."""

SIZES = {
    "n_layer": ("num_hidden_layers", "encoder_layers", "decoder_layers", "num_decoder_layers"),
    "n_head": ("num_attention_heads", "encoder_attention_heads", "decoder_attention_heads"),
    "n_embd": ("hidden_size",),
    "block_size": ("max_position_embeddings",),
}
"""The entries of a configuration that an argument sets, as far as it has them."""

OURS = {
    "vocab_size": "tokenizer",
    "num_labels": "corpus",
    "id2label": "corpus",
    "label2id": "corpus",
    "image_size": "corpus",
    "num_channels": "corpus",
    "dtype": "dtype",
    "torch_dtype": "dtype",
}
"""Other entries that arguments decide, and which."""

LARGEST_FILE = 2**24
"""Bytes of a config.json."""


def library() -> Any:
    """The library.

    Raises:
        ImportError: If it isn't installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            'models other than "gpt" are of the library transformers, which isn\'t there: '
            "pip install 'tiegym[models]'",
            name="transformers",
        ) from error
    return transformers


def read_entries(model_config: str) -> dict[str, Any]:
    """The entries that `TieConfig.model_config` gives.

    Raises:
        ValueError: If it is no JSON object.
    """
    try:
        entries = json.loads(model_config)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"model_config={model_config!r} is no JSON: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(
            f"model_config={model_config!r} must be a JSON object of entries of the model's "
            'configuration, such as {"intermediate_size": 512}'
        )
    return entries


def config_class(model: str) -> Any:
    """The library's class of a type's configuration.

    Raises:
        ValueError: If the type is unknown, or is several models in one.
    """
    known = library().CONFIG_MAPPING
    if model in known:
        kind = known[model]
        depth = kind.attribute_map.get("num_hidden_layers", "num_hidden_layers")
        if depth not in known_entries(kind):
            text = f"{model}_text"
            raise ValueError(
                f"model={model!r} is made of several models, whose sizes n_layer and the like "
                "don't say: choose one of them" + (f", such as {text}" if text in known else "")
            )
        return kind
    close = difflib.get_close_matches(model, list(known.keys()), 3)
    raise ValueError(
        f"model={model!r} is unknown: choose gpt, a model type of transformers"
        + (
            f" (did you mean {' or '.join(close)}?)"
            if close
            else ", such as gpt2, llama, bert, vit"
        )
        + ", or hf:ID_OR_FOLDER for a pretrained one"
    )


def pretrained_config(model: str) -> Any:
    """The configuration of a pretrained model, as it was saved.

    Args:
        model: hf:ID_OR_FOLDER.

    Raises:
        FileNotFoundError: If a folder has no config.json.
        OSError: If it is neither stored here nor to be had from the network.
        ValueError: If it is no configuration, or one that asks for code.
    """
    place = model.removeprefix("hf:")
    arguments: dict[str, Any] = {"trust_remote_code": False}
    if Path(place).is_dir():
        checked_file(Path(place), "config.json", LARGEST_FILE)
    else:
        _check_identity(model, place)
        arguments["local_files_only"] = not hub.is_reachable()
    try:
        config = library().AutoConfig.from_pretrained(place, **arguments)
    except OSError as error:
        raise OSError(
            f"model={model!r} is neither stored on this machine nor to be had from the network "
            f"({_first_line(error)}). Bring a folder that save_pretrained wrote, and give its path "
            "as model='hf:path/to/folder'"
        ) from error
    except Exception as error:  # of many types: the configuration classes check themselves
        raise ValueError(f"model={model!r} has no usable config.json: {error}") from error
    attention = config._attn_implementation
    if attention not in (None, "eager", "sdpa", "flash_attention_2", "flex_attention"):
        raise ValueError(f"model={model!r} asks for foreign code, attention {attention!r}: refused")
    if getattr(config, "transformers_weights", None) is not None:
        raise ValueError(
            f"model={model!r} names a file of its own for its weights, "
            f"{config.transformers_weights!r:.80}: only model.safetensors and its parts are read"
        )
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(f"model={model!r} is quantised: its weights can't be trained")
    return config


def checked_file(folder: Path, name: str, most: int | None = None) -> Path:
    """A file of a model's folder: an ordinary one, in that folder or its own hub cache.

    Raises:
        FileNotFoundError: If it isn't there.
        ValueError: If it is no ordinary file, lies elsewhere, or has more bytes than `most`.
    """
    path = folder / name
    if not path.exists():
        raise FileNotFoundError(f"model='hf:{folder}': there is no {name} in it")
    real = folder.resolve()
    places = (real, real.parent.parent / "blobs") if real.parent.name == "snapshots" else (real,)
    if not path.is_file() or not any(path.resolve().is_relative_to(place) for place in places):
        raise ValueError(f"model='hf:{folder}': {name} is no ordinary file of that folder")
    if most is not None and path.stat().st_size > most:
        raise ValueError(f"model='hf:{folder}': {name} has more than {most} bytes")
    return path


def stored_file(identity: str, name: str) -> str | None:
    """The path of a file of a model of the hub, if it has one: stored, or fetched now."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return hf_hub_download(identity, name, local_files_only=not hub.is_reachable())
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None


def _check_identity(model: str, place: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(place)
    except HFValidationError as error:
        raise FileNotFoundError(
            f"model={model!r}: there is no such folder, and no such name on the hub ({error})"
        ) from error


def known_entries(kind: Any) -> set[str]:
    """The names of a configuration's entries; those that begin with _ aren't for users."""
    if dataclasses.is_dataclass(kind):
        names = {field.name for field in dataclasses.fields(kind)}
    else:
        names = set(vars(kind()))
    names |= {"num_labels", *kind.attribute_map}
    return {name for name in names if not name.startswith("_")}


def check_entries(kind: Any, entries: dict[str, Any], pretrained: bool) -> None:
    """Checks the names of entries that a user gives.

    Args:
        kind: The class of the configuration.
        entries: What `read_entries` returned.
        pretrained: Whether the weights are there already, and with them the sizes.

    Raises:
        ValueError: If an entry is unknown, or an argument of its own.
    """
    known = known_entries(kind)
    decided = dict(OURS)
    for argument, names in SIZES.items():
        first = kind.attribute_map.get(names[0], names[0])
        decided |= {names[0]: argument, first: argument}
    for name in entries:
        if name in decided:
            raise ValueError(
                f"model_config has {name}, which the argument {decided[name]} decides"
                + (
                    ": a pretrained model keeps its own"
                    if pretrained
                    else f": give {decided[name]}"
                )
            )
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), 1)
            raise ValueError(
                f"model_config has {name}, which {kind.__name__} doesn't: "
                + (f"did you mean {close[0]}? " if close else "")
                + f"It has {', '.join(sorted(known - set(decided)))}"
            )


def heads(kind: Any) -> list[Head]:
    """The output layers that a type has, those that make a default first."""
    names = library()
    return [
        h for h, name in MAPPINGS.items() if kind in getattr(names, f"MODEL_FOR_{name}_MAPPING")
    ]


def choose_task(task: str, kind: Any, is_decoder: bool) -> str:
    """The task of a model, "auto" or one that it has an output layer for.

    Args:
        task: As in `TieConfig`.
        kind: The class of the configuration.
        is_decoder: Whether a type that also is an encoder (BERT and its like) reads from left to
            right.

    Raises:
        ValueError: If the model has no output layer for it.
    """
    there = heads(kind)
    if "masked-lm" in there and "causal-lm" in there:  # an encoder that can be made a decoder
        there.remove("masked-lm" if is_decoder else "causal-lm")
    tasks = [name for h in there for name, head in HEADS.items() if head == h]
    name = kind.model_type
    if not tasks:
        raise ValueError(
            f"model={name!r} has no output layer for any task: {', '.join(HEADS)} are there"
        )
    if task == "auto":
        return tasks[0]
    if task in tasks:
        return task
    if task not in HEADS:
        raise ValueError(f"task={task!r} is unknown: choose auto, {', '.join(HEADS)}")
    if task == "language-modeling" and "masked-language-modeling" in tasks:
        raise ValueError(
            f"model={name!r} is an encoder: it sees what it would have to predict, so it can't do "
            f"task={task!r}. Choose {', '.join(tasks)}"
        )
    raise ValueError(
        f"model={name!r} has no output layer for task={task!r}: choose {', '.join(tasks)}"
    )


def own_sizes(config: Any) -> dict[str, int]:
    """n_layer, n_head and n_embd of a pretrained model; layers are those of the decoder."""
    text = config.get_text_config(decoder=True)
    found = {}
    for argument in ("n_layer", "n_head", "n_embd"):
        for name in reversed(SIZES[argument]):
            if (value := getattr(text, name, None)) is not None:
                found[argument] = value
                break
    return found


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
