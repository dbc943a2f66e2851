"""The configuration of a model of `transformers` for a task: sizes, vocabulary, labels, dropout."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import nn

from tiegym.config import TieConfig
from tiegym.data.tasks.task import Task
from tiegym.library_models import (
    SIZES,
    config_class,
    heads,
    known_entries,
    pretrained_config,
    read_entries,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MLP_WIDTHS = (
    *("intermediate_size", "moe_intermediate_size", "d_ff", "ffn_dim", "hidden_dim"),
    *("encoder_ffn_dim", "decoder_ffn_dim"),
)
"""Entries that keep their proportion to the width unless they are given."""

HEAD_WIDTHS = ("head_dim", "d_kv")
"""Entries that are width / heads unless they are given."""


def make_config(config: TieConfig, task: Task) -> Any:
    """The configuration of a model's library for an environment's arguments.

    What the arguments say nothing of is as `model_config` gives it. Where that is silent, too, a
    pretrained model keeps what it has, and of a fresh one the widths of MLPs and heads and the
    number of key-value heads are in the type's proportion to `n_embd` and `n_head`, and all else is
    the type's default. `dropout` holds for every kind of dropout that the type has.

    Raises:
        ValueError: If the library finds that sizes don't go together; or if the images of the task
            have another size than those of a pretrained model, or its tokenizer more tokens.
    """
    entries = read_entries(config.model_config)
    if config.model.startswith("hf:"):
        return _of_pretrained(config, task, entries)
    kind = config_class(config.model)
    default = kind()
    values = _sizes(config, kind)
    values |= _proportions(config, default)
    values |= dict.fromkeys(_dropouts(default), config.dropout)
    values |= _of_task(task, kind, default)
    values |= entries
    try:
        made = kind(**values)
    except Exception as error:  # of many types: the configuration classes check themselves
        raise ValueError(f"model={config.model!r} can't have these sizes: {error}") from error
    return _with_decoder_start(made)


def _sizes(config: TieConfig, kind: Any) -> dict[str, Any]:
    known = known_entries(kind)
    values = {}
    for argument, names in SIZES.items():
        for name in names:
            own = kind.attribute_map.get(name, name)
            if own in known:
                values[own] = getattr(config, argument)
    return values


def _proportions(config: TieConfig, default: Any) -> dict[str, int]:
    """Widths and numbers that follow from `n_embd` and `n_head`, rounded down."""
    values = {}
    for name in MLP_WIDTHS:
        if isinstance(width := getattr(default, name, None), int):
            values[name] = max(1, width * config.n_embd // default.hidden_size)
    for name in HEAD_WIDTHS:
        if (
            isinstance(getattr(default, name, None), int)
            and name not in type(default).attribute_map
        ):
            values[name] = max(1, config.n_embd // config.n_head)
    if isinstance(groups := getattr(default, "num_key_value_heads", None), int):
        most = max(1, config.n_head * groups // default.num_attention_heads)
        divisors = [n for n in range(1, most + 1) if config.n_head % n == 0]
        values["num_key_value_heads"] = divisors[-1]
    return values


def _dropouts(config: Any) -> list[str]:
    """The entries that are probabilities of dropout."""
    names = known_entries(type(config))
    drop = [name for name in sorted(names) if "dropout" in name or name.endswith("pdrop")]
    return [name for name in drop if type(getattr(config, name, None)) in (int, float)]


def _of_task(task: Task, kind: Any, default: Any) -> dict[str, Any]:
    """What a task decides of a fresh model."""
    known = known_entries(kind)
    values: dict[str, Any] = {"vocab_size": task.vocab_size} if task.vocab_size else {}
    values |= _labels(task)
    if task.image_size is not None:
        height, width = task.image_size
        values["image_size"] = height if height == width else [height, width]
        values["num_channels"] = task.num_channels
        values |= {"patch_size": _patch(height, width, default.patch_size)}
    if task.vocab_size:
        for name in (n for n in known if n.endswith("token_id")):
            token = getattr(default, name, None)
            if isinstance(token, int) and token >= task.vocab_size:
                values[name] = None
        if task.head == "causal-lm" and not default.is_encoder_decoder:
            # The type's own are tokens of another vocabulary: a byte would end what is generated.
            values |= dict.fromkeys(("bos_token_id", "eos_token_id"))
        if task.end_id is not None and default.is_encoder_decoder:
            values["eos_token_id"] = task.end_id  # whose state such a type classifies by
        if task.pad_id is not None:
            values["pad_token_id"] = task.pad_id
        elif "masked-lm" not in heads(kind):  # without padding no token is set apart for it
            values["pad_token_id"] = None
    return {name: value for name, value in values.items() if name in known or name == "id2label"}


def _labels(task: Task) -> dict[str, Any]:
    if not task.n_labels:
        return {}
    names = task.label_names or tuple(f"LABEL_{i}" for i in range(task.n_labels))
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _patch(height: int, width: int, default: Any) -> int:
    """A patch's side: the type's own, or for small images what makes about 8 a side."""
    largest = default if isinstance(default, int) else default[0]
    most = min(largest, max(2, min(height, width) // 8))
    return max(side for side in range(1, most + 1) if height % side == 0 and width % side == 0)


def _of_pretrained(config: TieConfig, task: Task, entries: dict[str, Any]) -> Any:
    made = copy.deepcopy(pretrained_config(config.model))
    values = dict.fromkeys(_dropouts(made), config.dropout) | _labels(task) | entries
    known = getattr(made.get_text_config(), "vocab_size", 0)
    if task.tokenizer is not None and task.tokenizer.vocab_size > known:
        raise ValueError(
            f"tokenizer={config.tokenizer!r} has {task.tokenizer.vocab_size} tokens, but "
            f"model={config.model!r} knows {known}: give the tokenizer that it was trained with"
        )
    if task.vocab_size > known:
        values["vocab_size"] = task.vocab_size  # special tokens more than it has: new rows
    if task.image_size is not None:
        sides = (
            made.image_size if isinstance(made.image_size, list | tuple) else 2 * [made.image_size]
        )
        theirs, channels = tuple(sides), getattr(made, "num_channels", task.num_channels)
        if (theirs, channels) != (tuple(task.image_size), task.num_channels):
            raise ValueError(
                f"model={config.model!r} sees images of {theirs} pixels and {channels} channels, "
                f"but those of corpus={config.corpus!r} are {task.image_size} and "
                f"{task.num_channels}: bring images of that size"
            )
    if getattr(made, "pad_token_id", None) is None and task.pad_id is not None:
        values["pad_token_id"] = task.pad_id
    for name, value in values.items():
        setattr(made, name, value)
    return _with_decoder_start(made)


def _with_decoder_start(config: Any) -> Any:
    """Sets the token that decoders begin with where a type leaves it open: padding, as T5's."""
    if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
        config.decoder_start_token_id = config.pad_token_id
    return config


def first_position(model: PreTrainedModel, config: Any) -> int:
    """Rows of the position embedding that no token has: RoBERTa's positions come behind padding.

    Args:
        model: A `PreTrainedModel` of that configuration; without content will do.
        config: Its configuration.
    """
    rows = getattr(config, "max_position_embeddings", None)
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    tokens = model.get_input_embeddings()  # may have as many rows
    padded = [t.padding_idx for t in tables if t.num_embeddings == rows and t is not tokens]
    return next((padding + 1 for padding in padded if padding is not None), 0)
