"""What the state of a training run consists of, and whether tensors from a file can be one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tiegym.data.tasks.question_answering import QuestionAnswering
from tiegym.data.tasks.task import IGNORED, Task
from tiegym.ties import Ties
from tiegym.training.trainer import Trainer
from tiegym.training.workload import named


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
    workload, config = trainer.workload, trainer.config
    streams = ("rng.batches", "rng.dropout")
    stream = torch.Generator(trainer.device)
    expected = {name: (stream.get_state().shape, torch.uint8) for name in streams}
    row = named("validation", workload.sample("validation", 1, torch.Generator(trainer.device)))
    n_rows = config.eval_batches * config.batch_size
    expected |= {n: (torch.Size((n_rows, *t.shape[1:])), t.dtype) for n, t in row.items()}
    without = workload.without_moments(ties, frozen)
    for name, size in workload.parameter_sizes(ties).items():
        dtype = workload.dtype_of(name)
        expected[f"model.{name}"] = (torch.Size(size), dtype)
        moments = {
            f"optimizer.step.{name}": (torch.Size(), torch.float32),
            f"optimizer.exp_avg.{name}": (torch.Size(size), dtype),
            f"optimizer.exp_avg_sq.{name}": (torch.Size(size), dtype),
        }
        # Without any where it hasn't had a step: it is new, isn't used, or the last step failed.
        if name not in without and moments.keys() & tensors.keys():
            expected |= moments
    for name, size in workload.buffer_sizes.items():
        if f"model.{name}" in tensors:  # older ones have none
            expected[f"model.{name}"] = (torch.Size(size), workload.dtype_of(name))
    have = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if wrong := [n for n in expected.keys() | have.keys() if expected.get(n) != have.get(n)]:
        name = min(wrong)
        raise ValueError(
            f"{len(wrong)} tensor(s) don't fit: {name} is {have.get(name)}, but should be "
            f"{expected.get(name)}"
        )
    for name in row:
        if tensors[name].device.type == "cpu":
            _check_numbers(name, tensors[name], workload.task)
    for name in streams:
        if tensors[name].is_meta:
            continue
        try:
            stream.set_state(tensors[name].cpu())
        except RuntimeError as error:
            raise ValueError(f"{name} is no state of a random generator: {error}") from error


def _check_numbers(name: str, numbers: Tensor, task: Task) -> None:
    """Checks that what picks a row of an embedding, or a class, picks one that is there."""
    if numbers.is_floating_point() or not numbers.numel():
        return
    if name == "validation.targets":
        ends = _ends(task)
        if len(ends) == 1:
            numbers = numbers.masked_fill(numbers == IGNORED, 0)
    elif name in ("validation.inputs", "validation.inputs.input_ids"):
        ends = [task.vocab_size]
    else:  # a mask, or the number of a text of two
        ends = [2]
    if bool((numbers < 0).any() or (numbers >= torch.tensor(ends)).any()):
        raise ValueError(f"{name} has tokens, classes or places that aren't there")


def _ends(task: Task) -> list[int]:
    """What whole numbers in targets are below: one for all of them, or one a column."""
    if isinstance(task, QuestionAnswering):  # start, end, and the window's number
        return [task.block_size, task.block_size, len(task.windows)]
    return [task.n_labels or task.vocab_size]
