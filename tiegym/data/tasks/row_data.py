"""Rows of equal shape on a device: texts of one length, or images of one size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tiegym.data.tasks.task import Inputs, spread

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class Rows:
    """One split.

    Attributes:
        columns: What inputs are made of; the first dimension of each is the number of rows N.
        targets: (N, ...).
        unit: int64 (N,), rising: rows with one number belong together (the windows of a question),
            and a limit counts these. None: each row by itself.
    """

    columns: dict[str, Array]
    targets: Array
    unit: Array | None = None


class RowData:
    """All splits on a device; see `TaskData`.

    Args:
        splits: The rows of each split.
        device: Where they go.
        prepare: Makes inputs of columns (B, ...), on the device.
    """

    def __init__(
        self,
        splits: dict[str, Rows],
        device: torch.device,
        prepare: Callable[[dict[str, Tensor]], Inputs],
    ) -> None:
        """Copies the rows to the device."""
        self._prepare = prepare
        self._device = device
        self._columns = {
            split: {name: torch.from_numpy(a).to(device) for name, a in rows.columns.items()}
            for split, rows in splits.items()
        }
        self._targets = {s: torch.from_numpy(rows.targets).to(device) for s, rows in splits.items()}
        self._unit = {
            split: torch.arange(len(rows.targets))
            if rows.unit is None
            else torch.from_numpy(rows.unit)
            for split, rows in splits.items()
        }

    def sample(self, split: str, n: int, generator: torch.Generator) -> tuple[Inputs, Tensor]:
        """Rows drawn one by one, each from all of the split."""
        total = len(self._targets[split])
        rows = torch.randint(total, (n,), generator=generator, device=self._device)
        return self._take(split, rows)

    def batches(
        self, split: str, size: int, limit: int | None = None
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """Each row once, in order; with a limit those of so many units."""
        unit = self._unit[split]
        chosen = torch.isin(unit, spread(int(unit[-1]) + 1, limit)).nonzero()[:, 0]
        for rows in torch.split(chosen.to(self._device), size):
            yield self._take(split, rows)

    def _take(self, split: str, rows: Tensor) -> tuple[Inputs, Tensor]:
        columns = {name: column[rows] for name, column in self._columns[split].items()}
        return self._prepare(columns), self._targets[split][rows]
