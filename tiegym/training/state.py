"""What the state of a training run consists of, and whether tensors from a file can be one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tiegym.parts import unit_names
from tiegym.ties import Ties
from tiegym.training.resolve import resolve_dtype
from tiegym.training.trainer import Trainer
from tiegym.transformer.sizes import parameter_sizes


def check_state(
    trainer: Trainer,
    ties: Ties,
    tensors: dict[str, Tensor],
    frozen: Sequence[bool] | None = None,
) -> None:
    """Checks that tensors are a `Trainer.state` of a configuration; nothing is changed.

    Args:
        trainer: Whose configuration it is; it need not be built.
        ties: The tie vector of that state, (L,).
        tensors: Such as a file has them; those without content are judged by size and type.
        frozen: Which units had no moments, (P L,); None is none.

    Raises:
        ValueError: Naming a tensor that is missing, needless or of another size or type.
    """
    dtype, _ = resolve_dtype(trainer.config.dtype, trainer.device)
    rows = trainer.config.eval_batches * trainer.config.batch_size
    streams = ("rng.batches", "rng.dropout")
    stream = torch.Generator(trainer.device)
    expected = {name: (stream.get_state().shape, torch.uint8) for name in streams}
    for name in ("validation.inputs", "validation.targets"):
        expected[name] = (torch.Size((rows, trainer.config.block_size)), torch.int64)
    trained = any(name.startswith("optimizer.") for name in tensors)
    names = unit_names(len(ties), trainer.shape.n_layer)
    still = {f"blocks.{names[unit]}" for unit, flag in enumerate(frozen or ()) if flag}
    if trainer.config.embeddings == "frozen":
        still |= {"token_embedding", "position_embedding"}
    for name, size in parameter_sizes(trainer.shape, ties).items():
        expected[f"model.{name}"] = (torch.Size(size), dtype)
        if trained and not {name, name.rpartition(".")[0]} & still:
            expected[f"optimizer.step.{name}"] = (torch.Size(), torch.float32)
            for moment in ("exp_avg", "exp_avg_sq"):
                expected[f"optimizer.{moment}.{name}"] = (torch.Size(size), dtype)
    have = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if wrong := [n for n in expected.keys() | have.keys() if expected.get(n) != have.get(n)]:
        name = min(wrong)
        raise ValueError(
            f"{len(wrong)} tensor(s) don't fit: {name} is {have.get(name)}, but should be "
            f"{expected.get(name)}"
        )
    for name in ("validation.inputs", "validation.targets"):
        tokens = tensors[name]
        if tokens.device.type == "cpu" and not 0 <= tokens.min() <= tokens.max() < (
            trainer.shape.vocab_size
        ):
            raise ValueError(f"{name} has tokens beyond the vocabulary")
    for name in streams:
        if tensors[name].is_meta:
            continue
        try:
            stream.set_state(tensors[name].cpu())
        except RuntimeError as error:
            raise ValueError(f"{name} is no state of a random generator: {error}") from error
