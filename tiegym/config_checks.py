"""What a configuration's values must be beyond their types, and what it leaves to its model."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from tiegym import compression as compressions
from tiegym import features as layer_features
from tiegym import library_models, parts
from tiegym import private as private_parts
from tiegym.data import sources, tokenization
from tiegym.data.tasks.names import NAMED, validate_task

MOST = 2**31 - 1
"""The largest integer that any argument can be."""

MOST_LAYERS = 2**15 - 1
"""The largest `n_layer`: layers are 16-bit integers in observations."""

MOST_WEIGHTS = 2**50
"""The most weights of all layers together: more than any machine has, and few enough to count."""

OF_OUR_GPT = {
    "tie_change": "hard",
    "init": "gpt2",
    "init_std": 0.02,
    "residual_scale": "depth",
    "initial_weights": None,
    "quantize": None,
    "factorize": None,
    "embeddings": "trained",
    "compile": False,
}
"""Arguments that only our own transformer knows, and their values for all others."""


def filled_in(config: Any) -> dict[str, Any]:
    """The values of arguments that are left to a model of `transformers`; none for our own.

    The task, and the data that goes with it if `corpus` is the default of another. Of a pretrained
    model also its sizes, which the arguments' defaults stand for, its tokenizer, and its ties if
    they are asked for.

    Raises:
        ValueError: If the model is unknown, has no output layer for the task, or has other sizes
            than those given; or an entry of `model_config` doesn't exist.
        ImportError: If the library isn't installed.
        OSError: If a pretrained model isn't there.
    """
    if config.model == "gpt":
        return {}
    entries = library_models.read_entries(config.model_config)
    pretrained = config.model.startswith("hf:")
    found: dict[str, Any] = {}
    if pretrained:
        theirs = library_models.pretrained_config(config.model)
        kind = type(theirs)
        found = _own_sizes(config, theirs) | _own_tokenizer(config) | _own_ties(config, theirs)
        is_decoder = entries.get("is_decoder", getattr(theirs, "is_decoder", False))
    else:
        kind = library_models.config_class(config.model)
        is_decoder = entries.get("is_decoder", False)
    library_models.check_entries(kind, entries, pretrained)
    found["task"] = library_models.choose_task(config.task, kind, bool(is_decoder))
    data = NAMED.get(found["task"], ("stdlib",))
    if config.corpus == "stdlib" and "stdlib" not in data:
        found["corpus"] = data[0]
    return found


def _own_sizes(config: Any, theirs: Any) -> dict[str, int]:
    sizes = library_models.own_sizes(theirs)
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    for name, size in sizes.items():
        given = getattr(config, name)
        if given not in (size, defaults[name]):
            raise ValueError(
                f"model={config.model!r} has {name}={size}, but {given} is given: leave it out"
            )
    return sizes


def _own_ties(config: Any, theirs: Any) -> dict[str, tuple[int, ...]]:
    """Those that an exported folder has beside its weights, where "saved" asks for them."""
    if config.initial_ties != "saved":
        return {}
    ties = getattr(theirs, "ties", None)
    if not isinstance(ties, list) or not all(type(entry) is int for entry in ties):
        raise ValueError(
            f"initial_ties='saved', but the config.json of model={config.model!r} has no ties: "
            "only that of a folder that tiegym exported has"
        )
    of_parts = len(ties) == 2 * library_models.own_sizes(theirs)["n_layer"]
    if of_parts != (config.n_parts == 2):
        raise ValueError(
            f"initial_ties='saved', but the ties of model={config.model!r} are those of "
            + ("parts: give tie_parts='attention+mlp'" if of_parts else "blocks: leave tie_parts")
        )
    return {"initial_ties": tuple(ties)}


def _own_tokenizer(config: Any) -> dict[str, str]:
    """The model's own tokenizer in place of the default, if it has a tokenizer.json."""
    folder = Path(config.model.removeprefix("hf:"))
    if config.tokenizer != "bytes":
        return {}
    if not folder.is_dir():
        found = library_models.stored_file(str(folder), "tokenizer.json")
        return {} if found is None else {"tokenizer": found}
    if not (folder / "tokenizer.json").exists():
        return {}
    return {"tokenizer": str(library_models.checked_file(folder, "tokenizer.json"))}


def check(config: Any) -> None:
    """Checks every argument, once each is of its type.

    Raises:
        ValueError: Naming the argument, its value and what is allowed.
        FileNotFoundError: If `corpus` or `tokenizer` is a path that isn't there.
    """
    _check_sizes(config)
    _check_model(config)
    _check_training(config)
    private = private_parts.parse(config.private)
    private_parts.check(private, config.n_embd, config.tie_change, config.init)
    compressions.check(config.compression, config.n_embd, config.tie_change, config.dtype)
    layer_features.check(config.feature_names, config.tie_grad, config.action)
    drawn = config.initial_weights is None
    for name, default in (("init", "gpt2"), ("init_std", 0.02), ("residual_scale", "depth")):
        alone = f"{default!r} with initial_weights, which take the place of what it would set"
        require(config, name, drawn or getattr(config, name) == default, alone)
    if config.param_cost and not config.reward.endswith("ppl_params"):
        raise ValueError(
            f"param_cost={config.param_cost} has no effect with reward={config.reward!r}: "
            'choose reward="ppl_params" or "delta_ppl_params"'
        )
    require(
        config,
        "test_tokens",
        config.test_tokens is None or config.test_tokens >= 1,
        "at least 1, or None for the whole split",
    )
    require(
        config,
        "loss_chunk",
        config.loss_chunk is None or config.loss_chunk >= 0,
        "at least 1, 0 for all logits at once, or None to choose",
    )
    # exp(divergence_loss) is the worst perplexity that is ever reported: keep it finite.
    require(config, "divergence_loss", 0 < config.divergence_loss <= 80, "in (0, 80] nats")
    require(
        config,
        "device",
        re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", config.device) is not None,
        "auto, cpu, cuda, cuda:N or mps",
    )
    parts.parse(config.initial_ties, config.n_layer, config.n_parts)
    if config.model == "gpt":
        sources.validate_corpus(config.corpus)
        tokenization.validate_tokenizer(config.tokenizer)
    else:
        validate_task(config.task, config.corpus, config.tokenizer)


def _check_model(config: Any) -> None:
    """Rejects what a model doesn't know."""
    if config.model == "gpt":
        require(config, "model_config", config.model_config == "{}", "'{}' with model='gpt'")
        tasks = ("auto", "language-modeling")
        other = f'one of {", ".join(tasks)} with model="gpt": choose another model, such as "bert"'
        require(config, "task", config.task in tasks, other)
        if config.n_embd % config.n_head:
            raise ValueError(
                f"n_embd={config.n_embd} is not divisible by n_head={config.n_head}: "
                "each head gets an equal share of the width"
            )
    else:
        for name, value in OF_OUR_GPT.items():
            only = f'{value!r} with model={config.model!r}: only model="gpt" knows others'
            require(config, name, getattr(config, name) == value, only)
        known = ("none", "norms")
        only = f'none or norms with model={config.model!r}: only model="gpt" knows others'
        require(config, "private", config.private in known, only)
        only = f'None or 0 with model={config.model!r}: only model="gpt" knows others'
        require(config, "loss_chunk", config.loss_chunk in (None, 0), only)
    pretrained = config.model.startswith("hf:")
    only = '"first" but for a pretrained model, hf:ID_OR_FOLDER: there is nothing to merge'
    require(config, "merge", pretrained or config.merge == "first", only)


def _check_training(config: Any) -> None:
    """Rejects values of the recipe that can't be."""
    if config.batch_size % config.grad_accum:
        raise ValueError(
            f"batch_size={config.batch_size} is not divisible by grad_accum={config.grad_accum}: "
            "each micro-batch gets an equal share of the sequences"
        )
    require(config, "dropout", 0 <= config.dropout < 1, "in [0, 1)")
    for name in ("learning_rate", "init_std"):
        require(config, name, getattr(config, name) > 0, "positive")
    require(
        config,
        "warmup_iters",
        0 <= config.warmup_iters <= config.max_iters,
        f"from 0 to max_iters={config.max_iters}",
    )
    for name in ("weight_decay", "grad_clip", "param_cost"):
        require(config, name, getattr(config, name) >= 0, "zero or positive")


def _check_sizes(config: Any) -> None:
    """Rejects sizes that can't be, before anything of them is made."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if type(value) is int:
            require(config, field.name, value <= MOST, f"at most {MOST}")
    at_least_one = "n_layer n_head n_embd block_size batch_size iters_per_step max_iters "
    at_least_one += "eval_batches grad_accum"
    for name in at_least_one.split():
        require(config, name, getattr(config, name) >= 1, "at least 1")
    if config.action == "joint" and config.choices == "tie":
        enough = "at least 2 with action='joint': one layer has no choice to make"
        require(config, "n_layer", config.n_layer >= 2, enough)
    require(config, "n_layer", config.n_layer <= MOST_LAYERS, f"at most {MOST_LAYERS}")
    weights = 12 * config.n_embd**2 * config.n_layer
    if weights > MOST_WEIGHTS:
        raise ValueError(
            f"n_embd={config.n_embd} and n_layer={config.n_layer} are {weights:.1e} weights: "
            f"more than {MOST_WEIGHTS:.1e} can't be; lower them"
        )
    for name in ("eval_batches", "iters_per_step"):
        batches = getattr(config, name)
        if name == "iters_per_step":
            batches = min(batches, config.max_iters)
        tokens = batches * config.batch_size * config.block_size
        if tokens > MOST:
            raise ValueError(
                f"{name}={getattr(config, name)} batches of batch_size={config.batch_size} "
                f"sequences of block_size={config.block_size} are {tokens:.1e} tokens at a time: "
                f"at most {MOST:.1e} can be; lower one of them"
            )


def require(config: Any, name: str, holds: bool, allowed: str) -> None:
    """Checks one argument.

    Raises:
        ValueError: If it doesn't hold; the message names the argument, its value and what may be.
    """
    if not holds:
        raise ValueError(f"{name}={getattr(config, name)!r} must be {allowed}")
