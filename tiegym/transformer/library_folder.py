"""A tied model as a folder that the library `transformers` itself loads, without tiegym.

    transformers.AutoModelForCausalLM.from_pretrained(folder)

The library knows no ties between layers: each layer is written out, the tied ones as copies of
their root. Of models of the library the ties stand in config.json, where it keeps and ignores them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from tiegym.atomic_write import new_folder
from tiegym.data.tasks.framed_tokenizer import framed_tokenizer
from tiegym.data.tasks.images import Standardisation
from tiegym.data.tokenization import Tokenizer
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.gpt2_export import export_gpt2
from tiegym.transformer.isolation import isolated
from tiegym.transformer.library_config import first_position
from tiegym.transformer.library_file import head_of
from tiegym.transformer.library_weights import no_progress_bars
from tiegym.transformer.pretrained import TiedPretrainedModel


def export_folder(
    model: TiedTransformer | TiedPretrainedModel,
    tokenizer: Tokenizer | None,
    folder: str | Path,
    images: Standardisation | None = None,
) -> None:
    """Writes a model of either kind; see `export_gpt2` and `export_library_model`."""
    if isinstance(model, TiedPretrainedModel):
        export_library_model(model, tokenizer, folder, images)
    else:
        assert tokenizer is not None  # ours reads nothing but text
        export_gpt2(model, tokenizer, folder)


@isolated
def export_library_model(
    model: TiedPretrainedModel,
    tokenizer: Tokenizer | None,
    folder: str | Path,
    images: Standardisation | None = None,
) -> None:
    """Writes what `save_pretrained` of the library does, and the tokenizer or image processor.

    Args:
        model: The trained model.
        tokenizer: Its tokenizer; None for images.
        folder: Where to; made if it isn't there. It appears whole or not at all.
        images: How its images were standardised; None for texts.

    Raises:
        FileExistsError: If the folder holds something.
        ValueError: If the model is of no class that a task trains.
    """
    head = head_of(model.library)
    with new_folder(folder) as temporary:
        with no_progress_bars():
            model.library.save_pretrained(temporary, state_dict=untied(model))
        path = temporary / "config.json"
        _write_json(path, json.loads(path.read_text()) | {"ties": model.ties.tolist()})
        if tokenizer is not None:
            _write_tokenizer(model, tokenizer, temporary, framed=head != "causal-lm")
        if images is not None:
            values = _image_processor(model, images)
            _write_json(temporary / "preprocessor_config.json", values)


def untied(model: TiedPretrainedModel) -> dict[str, Tensor]:
    """The state dict of the library's model, with a copy for each tied layer of what it uses."""
    tensors: dict[str, Tensor] = {n: t.detach() for n, t in model.library.state_dict().items()}
    for unit, names in enumerate(model.layers.shared_names):
        if model.roots[unit] != unit:
            tensors |= {name: tensors[name].clone() for name in names}
    return tensors


def _write_tokenizer(
    model: TiedPretrainedModel, tokenizer: Tokenizer, folder: Path, framed: bool
) -> None:
    """Writes a tokenizer that gives texts the ids, special ones too, on which the model trained."""
    values: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    config = model.library.config
    if positions := getattr(config, "max_position_embeddings", None):
        values["model_max_length"] = positions - first_position(model.library, config)
    inner = tokenizer.to_library()
    if framed:
        inner, names = framed_tokenizer(tokenizer)
        values |= {f"{role}_token": name for role, name in names.items()}
    inner.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", values)


def _image_processor(model: TiedPretrainedModel, images: Standardisation) -> dict[str, Any]:
    """The entries of an image processor that gives pictures the values on which a model trained.

    The library first divides pixels by 255. Pictures of another size it resizes.
    """
    side = model.library.config.image_size
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": len(images.mean) == 3,
        "do_resize": True,
        "size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in images.mean],
        "image_std": [value / 255 for value in images.deviation],
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(f"{json.dumps(value, indent=2)}\n")
