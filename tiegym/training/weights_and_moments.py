"""What a model and the optimiser that trains it hold, by name: out of them and back."""

from __future__ import annotations

import torch
from torch import Tensor

from tiegym.transformer.library_model import saved_buffers
from tiegym.transformer.tied_model import TiedModel


def named_tensors(model: TiedModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The tensors themselves, not copies."""
    tensors = {}
    for name, p in model.named_parameters():
        tensors[f"model.{name}"] = p.detach()
        for key, value in optimizer.state.get(p, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value
    return tensors | {f"model.{name}": value for name, value in saved_buffers(model).items()}


@torch.no_grad()
def put_back(
    model: TiedModel, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Takes over copies of what `named_tensors` gave, in place where tensors are there.

    Args:
        model: With the ties that the other one had.
        optimizer: Of its parameters.
        tensors: By name; those of a state before the first iteration have no moments. Buffers that
            they lack, as older ones do, stay as they are.
    """
    for name, value in saved_buffers(model).items():
        if f"model.{name}" in tensors:
            value.copy_(tensors[f"model.{name}"])
    for name, p in model.named_parameters():
        p.copy_(tensors[f"model.{name}"])
        if not p.requires_grad:
            continue
        mine = optimizer.state[p]
        for key in ("step", "exp_avg", "exp_avg_sq"):
            saved = tensors.get(f"optimizer.{key}.{name}")
            if saved is None:
                mine.clear()
            elif key in mine:
                mine[key].copy_(saved)
            else:
                # AdamW counts its steps on the CPU, but for its fused kernel on a GPU.
                counter = key == "step" and p.device.type != "cuda"
                mine[key] = saved.to("cpu" if counter else p.device, copy=True)


def forget(model: TiedModel, optimizer: torch.optim.Optimizer) -> None:
    """Makes an optimiser as good as new, without a new allocation where all have moments."""
    moments = optimizer.state
    if any(p not in moments for p in model.parameters()):  # all have some, or none has
        moments.clear()
    for state in moments.values():
        for value in state.values():
            value.zero_()
