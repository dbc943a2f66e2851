"""Batches in several micro-batches: the same gradient, from fewer sequences at a time."""

import pytest
import torch

from tests.tiegym.small import SMALL
from tiegym import ties
from tiegym.config import TieConfig
from tiegym.data.corpora import load_corpus
from tiegym.training.trainer import Trainer

CONFIG = {**SMALL, "batch_size": 6, "n_embd": 8}


@pytest.fixture(scope="module")
def corpus():
    return load_corpus(SMALL["corpus"])


def start(corpus, **changes):
    trainer = Trainer(TieConfig(**CONFIG | changes), corpus)
    trainer.reset(0, ties.pattern("cycle:2", 4))
    return trainer


@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize("changes", [{}, {"loss_chunk": 7}, {"tie_grad": "sum"}])
def test_micro_batches_give_the_loss_and_gradients_of_the_batch(corpus, n, changes):
    whole, split = start(corpus, **changes), start(corpus, grad_accum=n, **changes)
    torch.testing.assert_close(split.train(1), whole.train(1), rtol=1e-6, atol=0)
    for mine, its in zip(split.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad, rtol=1e-4, atol=1e-7)
    assert len(split.train(3)) == 3


def test_so_many_sequences_are_there_at_a_time(corpus):
    trainer, seen = start(corpus, grad_accum=3), []
    loss = trainer.model.loss
    trainer.model.loss = lambda *batch: seen.append(batch[0].shape) or loss(*batch)
    trainer.train(2)
    assert seen == [(2, 16)] * 6


def test_admin_takes_no_batch_from_training(corpus):
    first = []
    for init in ("gpt2", "admin"):
        trainer = start(corpus, private="scales", init=init)
        loss, seen = trainer.model.loss, []
        trainer.model.loss = lambda *batch, seen=seen, loss=loss: (
            seen.append(batch[0]) or loss(*batch)
        )
        trainer.train(2)
        first.append(torch.stack(seen))
    assert torch.equal(*first)
