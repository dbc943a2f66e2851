"""Classes, or scores, of texts or images: the task, and how it is made of labelled texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tiegym.data import tokenization
from tiegym.data.splits import SPLITS
from tiegym.data.tasks import labelled_texts
from tiegym.data.tasks.labels import number_classes, read_scores
from tiegym.data.tasks.predictions import Predictions
from tiegym.data.tasks.row_data import RowData, Rows
from tiegym.data.tasks.task import Inputs, Metrics, Outputs, Task, cross_entropy, digest
from tiegym.data.tasks.text_encoding import text_encoder


@dataclass(frozen=True, kw_only=True)
class Classification(Task):
    """A class for each row, int64 (B,), or a score, float32 (B,), if `n_labels` is 1."""

    rows: dict[str, Rows] = field(repr=False)
    prepare: Callable[[dict[str, Tensor]], Inputs] = field(repr=False)

    def data(self, device: torch.device) -> RowData:
        """The rows on a device."""
        return RowData(self.rows, device, self.prepare)

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Cross-entropy of classes; of scores half the squared error.

        That is the negative log-likelihood of a Gaussian of variance 1, less its constant.
        """
        logits = outputs["logits"]
        if targets.is_floating_point():
            return 0.5 * functional.mse_loss(logits[..., 0].float(), targets)
        return cross_entropy(logits, targets)

    def count(self, targets: Tensor) -> int:
        """Rows."""
        return len(targets)

    def metrics(self) -> Metrics:
        """Those of the data set, or accuracy; of scores Pearson's and Spearman's correlation."""
        return Predictions(self.metric_names)


def text_classification(corpus: str, tokenizer: str, block_size: int) -> Classification:
    """The task of telling classes or scores of texts.

    Raises:
        ValueError: If labels or texts don't fit, or block_size has no room.
        OSError: If the data can't be had.
    """
    source = labelled_texts.read(corpus)
    labels = {split: [row.label for row in rows] for split, rows in source.rows.items()}
    shape: dict[str, Any]
    targets: dict[str, Any]
    if source.is_score:
        targets = read_scores(labels, corpus)
        shape = {
            "metric_names": source.metric_names or ("pearson", "spearman"),
            "uniform_loss": float(0.5 * np.var(targets["train"].astype(np.float64))),
            "n_labels": 1,
        }
    else:
        names, targets = number_classes(labels, corpus, source.label_names)
        shape = {
            "metric_names": source.metric_names or ("accuracy",),
            "uniform_loss": math.log(len(names)),
            "label_names": names,
            "n_labels": len(names),
        }
    train = source.rows["train"]
    is_pair = train[0].second is not None
    made = tokenization.make_tokenizer(
        tokenizer, "\n".join(text for row in train for text in row[:2] if text is not None) + "\n"
    )
    sample = next((row.first for row in train if row.first.strip()), "")
    encoder = text_encoder(made, sample[:1000])
    rows = {}
    for split, found in source.rows.items():
        seconds = [row.second or "" for row in found] if is_pair else None
        columns = encoder.rows([row.first for row in found], seconds, block_size)
        rows[split] = Rows(columns, targets[split])
    content: list[str | bytes] = list(shape.get("label_names", ()))
    for split in SPLITS:
        content += [split, targets[split].tobytes()]
        content += [text for row in source.rows[split] for text in row[:2] if text is not None]
    return Classification(
        name="classification",
        corpus=corpus,
        head="sequence-classification",
        sha256=digest(content),
        n_rows={split: len(found) for split, found in source.rows.items()},
        tokenizer=made,
        vocab_size=encoder.vocab_size,
        pad_id=encoder.pad,
        end_id=encoder.end,
        block_size=block_size,
        rows=rows,
        prepare=encoder.inputs,
        **shape,
    )
