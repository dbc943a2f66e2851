"""The trainer and its data, without the environment."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.tiegym.small import SMALL
from tiegym import ties
from tiegym.config import PAPER, TieConfig
from tiegym.data.corpora import SPLITS, load_corpus, spread_windows
from tiegym.data.token_data import TokenData
from tiegym.rewards import reward
from tiegym.training.out_of_memory import advice
from tiegym.training.resolve import resolve_device, resolve_dtype
from tiegym.training.trainer import Trainer
from tiegym.transformer import tying


@pytest.fixture(scope="module")
def corpus():
    return load_corpus(SMALL["corpus"])


def start(corpus, pattern="cycle:2", seed=0, **changes):
    made = Trainer(TieConfig(**SMALL | changes), corpus)
    made.reset(seed, ties.pattern(pattern, 4))
    return made


@pytest.fixture
def trainer(corpus):
    return start(corpus)


def one_token_a_split(corpus):
    """Training is all token 0, validation token 1, test token 2: batches have no other content."""
    tokens = {split: np.full(200, k, corpus.train.dtype) for k, split in enumerate(SPLITS)}
    return dataclasses.replace(corpus, **tokens)


def record_reads(trainer):
    """A list that gets the inputs and targets of each loss that the trainer computes."""
    reads, loss = [], trainer.model.loss
    trainer.model.loss = lambda *batch: reads.append(torch.stack(batch[:2])) or loss(*batch)
    return reads


def test_windows_predict_every_token_of_a_split_but_the_first_once(corpus):
    data = TokenData(corpus, torch.device("cpu"))
    for limit in (None, 10**9, len(corpus.test) - 1):
        batches = list(data.windows("test", 16, 3, limit))
        targets = torch.cat([t.flatten() for _, t in batches])
        assert targets.tolist() == corpus.test[1:].tolist()
        for inputs, its in batches:
            assert torch.equal(inputs[:, 1:], its[:, :-1])


@pytest.mark.parametrize("limit", [1, 7, 16, 17, 100, 500])
def test_a_limit_spreads_windows_evenly_over_the_split(corpus, limit):
    n = len(corpus.test)
    numbered = dataclasses.replace(corpus, test=np.arange(n, dtype=np.uint16))
    batches = list(TokenData(numbered, torch.device("cpu")).windows("test", 16, 3, limit))
    rows = [row for _, targets in batches for row in targets.tolist()]
    for row in rows:
        assert row == list(range(row[0], row[0] + len(row)))
    read = sorted(token for row in rows for token in row)
    assert len(read) == len(set(read)) == limit
    assert read[0] >= 1
    assert read[-1] < n
    gaps = np.diff([0, *[row[0] for row in rows], n])  # half a share, shares, half a share
    assert gaps[1:-1].max(initial=0) - gaps[1:-1].min(initial=n) <= 1
    assert abs(read[0] - (n - 1 - read[-1])) <= 2


def test_bits_a_byte_count_the_bytes_of_exactly_the_tokens_that_are_read():
    corpus = load_corpus(SMALL["corpus"], "bpe-300")
    lengths = corpus.tokenizer.byte_lengths()
    for limit in (7, 16, 100):
        windows = TokenData(corpus, torch.device("cpu")).windows("test", 16, 3, limit)
        read = torch.cat([targets.flatten() for _, targets in windows]).numpy()
        expected = pytest.approx(lengths[read].mean())
        assert corpus.bytes_per_token("test", limit, 16) == expected


def test_samples_come_from_their_split_alone(corpus):
    data = TokenData(corpus, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    for split in ("train", "validation"):
        text = getattr(corpus, split).tobytes()
        inputs, targets = data.sample(split, 20, 16, generator)
        for row, its in zip(inputs, targets, strict=True):
            window = torch.cat((row, its[-1:])).numpy().astype(corpus.train.dtype)
            assert window.tobytes() in text


def test_each_loss_reads_its_own_split(corpus):
    trainer = start(one_token_a_split(corpus))
    reads = record_reads(trainer)
    for split, compute in enumerate(
        (lambda: trainer.train(2), trainer.validation_loss, trainer.test_loss)
    ):
        reads.clear()
        compute()
        assert {token for batch in reads for token in batch.unique().tolist()} == {split}


def test_the_validation_set_has_eval_batches_and_depends_on_the_seed(corpus):
    first, again, other = (start(corpus, seed=seed, eval_batches=3) for seed in (0, 0, 1))
    assert first.validation_set[0].shape == (3 * SMALL["batch_size"], SMALL["block_size"])
    assert torch.equal(first.validation_set[0], again.validation_set[0])
    assert not torch.equal(first.validation_set[0], other.validation_set[0])


def test_training_lowers_the_loss(trainer):
    before = trainer.validation_loss().item()
    losses = trainer.train(60)
    assert losses.shape == (60,)
    assert trainer.validation_loss().item() < before - 0.3


def test_the_test_loss_is_the_mean_over_its_tokens(trainer, corpus):
    total = 0.0
    tokens = torch.from_numpy(corpus.test.astype(np.int64))
    for start, length in spread_windows(len(tokens) - 1, 100, 16):
        window = tokens[start : start + length + 1]
        logits = trainer.model(window[None, :-1])[0]
        total += F.cross_entropy(logits, window[1:], reduction="sum").item()
    assert trainer.test_loss() == pytest.approx(total / 100)


def test_a_gradient_is_clipped_to_the_norm_asked_for(corpus):
    trainer = Trainer(TieConfig(**SMALL, grad_clip=0.01), corpus)
    trainer.reset(0, ties.pattern("tied", 4))
    trainer.train(1)
    gradients = [p.grad for p in trainer.model.parameters()]
    assert torch.nn.utils.get_total_norm(gradients).item() == pytest.approx(0.01, rel=1e-3)


def test_weights_decay_by_learning_rate_times_weight_decay_an_iteration(corpus):
    plain, decayed = (start(corpus, learning_rate=0.5, weight_decay=d) for d in (0.0, 0.8))
    before = [p.detach().clone() for p in plain.model.parameters()]
    plain.train(1)
    decayed.train(1)
    for p, q, old in zip(plain.model.parameters(), decayed.model.parameters(), before, strict=True):
        torch.testing.assert_close(p - q, 0.5 * 0.8 * old)


def test_dropout_acts_in_training_alone(corpus):
    plain, dropped = (start(corpus, dropout=dropout) for dropout in (0.0, 0.5))
    assert dropped.validation_loss() == plain.validation_loss()
    assert dropped.test_loss() == plain.test_loss()
    assert dropped.train(1) != plain.train(1)


def test_dropout_goes_on_from_one_call_of_training_to_the_next(corpus):
    same = one_token_a_split(corpus)  # all batches are alike, and the weights hardly move
    parts, whole = (start(same, dropout=0.5, learning_rate=1e-12) for _ in range(2))
    losses = torch.cat([parts.train(1) for _ in range(3)])
    assert len(losses.unique()) == 3
    assert torch.equal(losses, whole.train(3))


def test_neither_ties_nor_dropout_change_initial_weights_or_batches(corpus):
    def run(pattern, dropout):
        trainer = start(corpus, pattern, dropout=dropout)
        weights = [trainer.model.token_embedding, *trainer.model.independent(0).parameters()]
        weights = torch.cat([p.detach().flatten() for p in weights])
        reads = record_reads(trainer)
        trainer.train(2)
        trainer.retie(ties.pattern("sandwich", 4))
        trainer.train(1)
        trainer.validation_loss()
        return weights, torch.cat(reads)

    expected = run("tied", 0.0)
    for pattern, dropout in (("tied", 0.5), ("cycle:2", 0.0), ("independent", 0.5)):
        for mine, its in zip(run(pattern, dropout), expected, strict=True):
            assert torch.equal(mine, its)


def test_batches_and_dropout_have_streams_of_their_own_that_do_not_depend_on_the_ties(corpus):
    a, b = (start(corpus, pattern, dropout=0.5) for pattern in ("tied", "independent"))
    assert not torch.equal(a.state()["rng.batches"], a.state()["rng.dropout"])
    for trainer in (a, b):
        trainer.train(2)
    for stream in ("rng.batches", "rng.dropout"):
        assert torch.equal(a.state()[stream], b.state()[stream])


def test_reset_makes_everything_as_new_in_the_same_memory(trainer):
    trainer.train(3)
    addresses = [p.data_ptr() for p in trainer.model.parameters()]
    moments = [s["exp_avg"].data_ptr() for s in trainer.optimizer.state.values()]
    trainer.reset(0, ties.pattern("cycle:2", 4))
    assert [p.data_ptr() for p in trainer.model.parameters()] == addresses
    assert [s["exp_avg"].data_ptr() for s in trainer.optimizer.state.values()] == moments
    again = trainer.train(3)
    trainer.reset(0, ties.pattern("cycle:2", 4))
    assert torch.equal(trainer.train(3), again)


class NewMemory(TorchDispatchMode):
    """Adds up the bytes of tensors that operations allocate, whether freed since or not."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        def storages(values):
            return {t.untyped_storage() for t in tree_leaves(values) if isinstance(t, torch.Tensor)}

        given = {s.data_ptr() for s in storages((args, kwargs))}
        result = function(*args, **kwargs or {})
        self.bytes += sum(s.nbytes() for s in storages(result) if s.data_ptr() not in given)
        return result


def test_a_fork_copies_the_model_state_once(trainer):
    trainer.train(1)
    state = tying.model_state_bytes(trainer.model, trainer.optimizer)
    with NewMemory() as new:
        twin = trainer.fork()
    assert 0.7 * state < new.bytes <= state  # gradients aren't copied
    twin.train(1)
    assert tying.model_state_bytes(twin.model, twin.optimizer) == state


@pytest.mark.parametrize("after", ["cycle:2", "sequence:2", "independent"])
def test_going_back_to_a_state_allocates_no_more_than_the_blocks_it_lacks(trainer, after):
    trainer.train(1)
    vector = trainer.model.ties
    state = {name: tensor.clone() for name, tensor in trainer.state().items()}
    trainer.retie(ties.pattern(after, 4))
    trainer.train(1)
    with NewMemory() as new:
        trainer.load_state(vector, state)
    assert new.bytes < 3000  # the validation set; one block's weights alone take 13 KB


def test_reset_allocates_no_model_state(trainer):
    trainer.train(1)
    with NewMemory() as new:
        trainer.reset(1, ties.pattern("sequence:2", 4))
    assert new.bytes < 3000


def test_an_unknown_reward_is_refused():
    with pytest.raises(ValueError, match="reward='x' is unknown"):
        reward("x", 1.0, 1.0)


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_takes_a_gpu_of_any_kind(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto").type == expected


def test_too_little_memory_names_all_that_takes_memory():
    message = advice(TieConfig(**SMALL), MemoryError("none"))
    sizes = ("batch_size", "block_size", "eval_batches", "iters_per_step", "n_embd", "n_layer")
    assert all(f"{name}={SMALL[name]}" in message for name in sizes)


def test_devices_and_dtypes_resolve():
    assert resolve_device("cpu").type == "cpu"
    assert resolve_dtype("auto", torch.device("cpu")) == (torch.float32, torch.float32)
    mixed = resolve_dtype("bfloat16-mixed", torch.device("cpu"))
    assert mixed == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat16-mixed"])
@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_bfloat16_trains(corpus, dtype, tie_grad):
    trainer = Trainer(TieConfig(**SMALL, dtype=dtype, tie_grad=tie_grad), corpus)
    trainer.reset(0, ties.pattern("tied", 4))
    losses = trainer.train(60)
    assert losses.dtype == torch.float32
    assert losses[-5:].mean() < losses[0] - 0.3


def test_the_papers_values_are_those_of_its_research_code():
    paper = TieConfig(**PAPER)
    assert (paper.n_layer, paper.n_embd, paper.n_head, paper.block_size) == (48, 1600, 16, 256)
    assert paper.max_iters == 56_400
    assert paper.steps_per_episode == 300 * 47


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_training_and_evaluation_never_wait_for_the_gpu(corpus, dropout):
    trainer = Trainer(TieConfig(**SMALL | {"device": "cuda"}, dropout=dropout), corpus)
    trainer.reset(0, ties.pattern("tied", 4))
    trainer.train(1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for pattern in ("cycle:2", "independent", "tied"):
            trainer.retie(ties.pattern(pattern, 4))
            trainer.train(3)
            trainer.validation_loss()
    finally:
        torch.cuda.set_sync_debug_mode("default")
