"""How a task is made of its name and that of its data."""

from __future__ import annotations

from pathlib import Path

from tiegym.data.corpora import load_corpus
from tiegym.data.tasks.classification import text_classification
from tiegym.data.tasks.images import image_classification
from tiegym.data.tasks.language import language_modeling, masked_language_modeling
from tiegym.data.tasks.names import validate_task
from tiegym.data.tasks.question_answering import question_answering
from tiegym.data.tasks.task import Task


def load_task(
    task: str,
    corpus: str,
    *,
    tokenizer: str = "bytes",
    block_size: int = 128,
    image_size: int | tuple[int, int] | None = None,
    cache_dir: Path | None = None,
) -> Task:
    """A task with its data.

    Args:
        task: See `validate_task`.
        corpus: See `validate_task`.
        tokenizer: As in `TieConfig.tokenizer`; those that are trained are trained on the training
            split. Images ignore it.
        block_size: Tokens T of a text, with the special ones. Images ignore it.
        image_size: Pixels that images must have, height and width; None takes what they have.
        cache_dir: As in `load_corpus`, for both kinds of language modelling.

    Raises:
        ValueError: If names, texts, labels, answers, images or splits don't fit.
        FileNotFoundError: If a path has nothing.
        OSError: If a data set is neither stored on this machine nor to be had from the network.
        ImportError: If it needs a library that is missing; it says how to get it.
    """
    validate_task(task, corpus, tokenizer)
    if task == "language-modeling":
        return language_modeling(load_corpus(corpus, tokenizer, cache_dir), block_size)
    if task == "masked-language-modeling":
        return masked_language_modeling(load_corpus(corpus, tokenizer, cache_dir), block_size)
    if task == "classification":
        return text_classification(corpus, tokenizer, block_size)
    if task == "question-answering":
        return question_answering(corpus, tokenizer, block_size)
    return image_classification(corpus, image_size)
