"""From an environment's arguments to its data, and to the workload that trains on them."""

from __future__ import annotations

from tiegym.config import TieConfig
from tiegym.data.corpora import Corpus, load_corpus
from tiegym.data.tasks.task import Task
from tiegym.training.gpt_workload import GPTWorkload
from tiegym.training.library_workload import LibraryWorkload
from tiegym.training.workload import Workload


def load_data(config: TieConfig) -> Corpus | Task:
    """The data that a configuration names: a corpus for our own transformer, else a task.

    Raises:
        ValueError: If texts, labels, images or splits don't fit.
        OSError: If it can't be read.
    """
    if config.model == "gpt":
        return load_corpus(config.corpus, config.tokenizer)
    from tiegym.data.tasks.load import load_task
    from tiegym.library_models import pretrained_config

    size = None
    if config.task == "image-classification" and config.model.startswith("hf:"):
        size = getattr(pretrained_config(config.model), "image_size", None)
    return load_task(
        config.task,
        config.corpus,
        tokenizer=config.tokenizer,
        block_size=config.block_size,
        image_size=tuple(size) if isinstance(size, list) else size,
    )


def make_workload(config: TieConfig, data: Corpus | Task) -> Workload:
    """The workload of a configuration and its data; raises as the two kinds do.

    Raises:
        TypeError: If the data is that of another kind of model.
    """
    if config.model == "gpt" and isinstance(data, Corpus):
        return GPTWorkload(config, data)
    if config.model != "gpt" and isinstance(data, Task):
        return LibraryWorkload(config, data)
    raise TypeError(f"model={config.model!r} can't be trained on a {type(data).__name__}")


def kinds_of(config: TieConfig) -> tuple[str, ...] | None:
    """The kinds of a model's units, where only units of one kind may share weights; else None.

    Raises:
        ValueError: If the model can't be made.
        OSError: If its data or weights can't be read.
    """
    if config.model == "gpt":
        return None
    kinds = make_workload(config, load_data(config)).kinds
    return None if kinds is None else tuple(kinds)
