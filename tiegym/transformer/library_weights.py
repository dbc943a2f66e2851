"""Weights of pretrained models of `transformers`: read from files that are checked, and given."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiegym.config import Merge, TieConfig
from tiegym.data import hub
from tiegym.library_models import LARGEST_FILE, checked_file, pretrained_config, stored_file
from tiegym.transformer.library_model import Plan, auto_class, saved_buffers
from tiegym.transformer.pretrained import TiedPretrainedModel
from tiegym.transformer.streams import lent


def read_pretrained(config: TieConfig, plan: Plan) -> dict[str, Tensor]:
    """The weights of a pretrained model, of all layers, and its buffers, float32 on the CPU.

    Args:
        config: With a model hf:ID_OR_FOLDER.
        plan: Made of it.

    Returns:
        By their names in a `TiedPretrainedModel`; output layers that it lacks are missing.

    Raises:
        FileNotFoundError: If a folder has no safetensors file.
        OSError: If it can't be had.
        ValueError: If the weights don't fit the configuration.
    """
    place = config.model.removeprefix("hf:")
    folder = Path(place)
    arguments: dict[str, Any] = {}
    if folder.is_dir():
        _check_files(folder)
    else:
        arguments["local_files_only"] = not hub.is_reachable()
        if (index := stored_file(place, _INDEX)) is not None:
            _check_index(config.model, Path(index))
    theirs = pretrained_config(config.model)
    for name in ("id2label", "label2id"):
        if hasattr(plan.config, name):
            setattr(theirs, name, getattr(plan.config, name))
    try:
        with lent(torch.Generator()), no_progress_bars():
            model, info = auto_class(plan.head).from_pretrained(
                place,
                config=theirs,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **arguments,
            )
    except OSError as error:
        raise OSError(f"the weights of model={config.model!r} can't be read: {error}") from error
    except Exception as error:  # of many types, safetensors' own among them
        raise ValueError(f"the weights of model={config.model!r} don't fit: {error}") from error
    missing = set(info["missing_keys"])
    inside = {name for names in plan.layers.shared_names for name in names}
    if lost := sorted(missing & inside):
        raise ValueError(
            f"the weights of model={config.model!r} lack {len(lost)} of its layers' parameters, "
            f"such as {lost[0]}: it isn't the model that its config.json describes"
        )
    weights = model.state_dict()
    names = [n for n, _ in model.named_parameters()] + [*saved_buffers(model)]
    found = {f"library.{n}": weights[n] for n in names if n not in missing}
    sizes = plan.sizes | plan.buffers
    rows = getattr(theirs.get_text_config(), "vocab_size", None)  # images have none
    for name, weight in found.items():
        size = sizes.get(name)
        if size is None or not _fits(weight.shape, size, rows):
            raise ValueError(
                f"the weights of model={config.model!r} don't fit: {name} is of size "
                f"{tuple(weight.shape)}, but the configuration asks for {size}"
            )
    return found


def _fits(theirs: Sequence[int], size: Sequence[int], rows: int | None) -> bool:
    """Whether sizes are the same but for more tokens than a vocabulary of so many has."""
    pairs = zip(size, theirs, strict=False)
    return len(size) == len(theirs) and all(a == b or a > b == rows for a, b in pairs)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """A context in which the library draws none: whoever runs this draws their own."""
    from transformers.utils import logging

    drawn = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if drawn:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _check_files(folder: Path) -> None:
    """Checks that a folder has weights that can be read without running anything."""
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"model='hf:{folder}' is an adapter: give the model with it merged in")
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise FileNotFoundError(
            f"model='hf:{folder}' has no weights: there is no *.safetensors file in it"
            + (", and pickled ones (*.bin) are never read: save it anew" if pickled else "")
        )
    for path in found:
        checked_file(folder, path.name)
    if (folder / "generation_config.json").exists():  # read beside the weights
        checked_file(folder, "generation_config.json", LARGEST_FILE)
    if (folder / _INDEX).exists():
        for name in _check_index(f"hf:{folder}", checked_file(folder, _INDEX, 4 * LARGEST_FILE)):
            checked_file(folder, name)


_INDEX = "model.safetensors.index.json"


def _check_index(model: str, path: Path) -> set[str]:
    """The files that an index names, each of safetensors and in the index' own folder.

    The library reads whatever stands there: files elsewhere, and pickled ones by unpickling them.

    Raises:
        ValueError: If it names others, or is no index.
    """
    try:
        files = set(json.loads(path.read_bytes())["weight_map"].values())
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"model={model!r}: {path.name} is damaged: {error!r:.200}") from error
    for name in files:
        plain = isinstance(name, str) and "/" not in name and "\\" not in name
        if not plain or not name.endswith(".safetensors"):
            raise ValueError(
                f"model={model!r}: {path.name} names {name!r:.200}, which is no safetensors file "
                "in its own folder: refused"
            )
    return files


@torch.no_grad()
def take_over(model: TiedPretrainedModel, source: Mapping[str, Tensor], merge: Merge) -> None:
    """Gives a model pretrained weights and buffers, as far as there are some.

    Args:
        model: Initialised.
        source: What `read_pretrained` returned.
        merge: What a root gets that several layers use: "first" its own weights, those of the first
            of them; "mean" the mean over all of them.
    """
    names, roots = model.layers.shared_names, model.roots
    inside = {f"library.{name}": unit for unit, each in enumerate(names) for name in each}
    for name, buffer in saved_buffers(model).items():  # of every position, tied or not
        if name in source:
            _copy(source[name], buffer)
    for name, p in model.named_parameters():
        if name not in source:
            continue
        if merge == "mean" and name in inside:
            root = inside[name]
            place = names[root].index(name.removeprefix("library."))
            users = [unit for unit, r in enumerate(roots) if r == root]
            each = [source[f"library.{names[unit][place]}"] for unit in users]
            p.copy_(torch.stack(each).mean(0))
        else:
            _copy(source[name], p)


def _copy(source: Tensor, target: Tensor) -> None:
    """Copies; what is for tokens that the pretrained model doesn't have stays as it begins."""
    target[tuple(slice(n) for n in source.shape)].copy_(source)
