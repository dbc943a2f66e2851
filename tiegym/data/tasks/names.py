"""Tasks by name: which there are, and which data each takes. Reads nothing, and needs no torch."""

from __future__ import annotations

from typing import Literal

from tiegym.data import hub, sources, tokenization
from tiegym.data.tasks import glue

Head = Literal[
    "causal-lm",
    "masked-lm",
    "sequence-classification",
    "question-answering",
    "image-classification",
]
"""Kinds of output layers, as the library `transformers` tells them apart."""

HEADS: dict[str, Head] = {
    "language-modeling": "causal-lm",
    "masked-language-modeling": "masked-lm",
    "classification": "sequence-classification",
    "question-answering": "question-answering",
    "image-classification": "image-classification",
}
"""The tasks, and the output layer that each needs."""

NAMED = {
    "classification": ("stdlib", *(f"glue:{name}" for name in glue.TASKS)),
    "question-answering": ("stdlib", "squad"),
    "image-classification": ("digits", "cifar10"),
}
"""The data that has a name of its own, by task; the first is on every machine."""


METRIC_NAMES = (
    *("accuracy", "f1", "exact_match"),
    *("matthews_correlation", "pearson", "spearman"),
)
"""The metrics that tasks have: all at most 1, and better when larger."""


def validate_task(task: str, corpus: str, tokenizer: str = "bytes") -> None:
    """Checks the names of a task and its data without reading anything.

    Args:
        task: One of `HEADS`.
        corpus: For both kinds of language modelling as in `TieConfig.corpus`. For the others one of
            `NAMED`, hf:ID[:CONFIG], or the path of a file or folder.
        tokenizer: As in `TieConfig.tokenizer`; images have none, and ignore it.

    Raises:
        ValueError: If a name is unknown, or the task has no such data.
        FileNotFoundError: If it is a path and there is nothing.
    """
    if task not in HEADS:
        raise ValueError(f"task={task!r} is unknown: choose {', '.join(HEADS)}")
    if task != "image-classification":
        tokenization.validate_tokenizer(tokenizer)
    if task not in NAMED:
        sources.validate_corpus(corpus)
        return
    if corpus in NAMED[task]:
        return
    if corpus.startswith("hf:"):
        hub.validate(corpus)
        return
    choice = f"choose {', '.join(NAMED[task])}, hf:ID[:CONFIG], or the path of a file or folder"
    others = sorted({name for names in NAMED.values() for name in names} | set(sources.HUB))
    if corpus in others or corpus.startswith(("glue:", "synthetic:", "nested:")):
        raise ValueError(f"corpus={corpus!r} is no data for task={task!r}: {choice}")
    sources.validate_path(corpus, choice)
