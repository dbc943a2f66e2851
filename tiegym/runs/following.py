"""The other ranks of a program: they have trainers and no environment, and do what rank 0 does."""

from __future__ import annotations

import torch

from tiegym.config import TieConfig
from tiegym.runs.input_errors import as_input_errors
from tiegym.training import collectives, parallel
from tiegym.training.load import load_data
from tiegym.training.trainer import Trainer


def follow() -> None:
    """Does with trainers of its own what rank 0 does with its trainers, until that says it ends.

    A command is the numbers of trainers that are dropped first; a trainer's number; the name of a
    method; its arguments, a list and a dictionary; and the optimiser's hyperparameters.

    Raises:
        InputError: If this rank can't have such a trainer, for want of the corpus, say.
        tiegym.training.collectives.RankLost: If rank 0 is gone.
    """
    trainers: list[Trainer | None] = []
    while (command := collectives.from_first(None)) is not None:
        dropped, number, name, args, kwargs, hyperparameters = command
        for other in dropped:
            trainers[other] = None
        if name == parallel.MAKE:
            config, threads = args
            torch.set_num_threads(threads)
            trainers.append(_make(config))
            continue
        trainer = trainers[number]
        assert trainer is not None, "rank 0 goes on with a trainer that it dropped"
        if hyperparameters is not None:
            trainer.hyperparameters = hyperparameters
        result = getattr(trainer, name)(*args, **kwargs)
        if isinstance(result, Trainer):  # a fork
            trainers.append(result)


def _make(config: TieConfig) -> Trainer:
    with as_input_errors():
        return Trainer(config, load_data(config))
