"""Masked language modelling by BERT's rule; language modelling with the windows of TokenData."""

import math

import pytest
import torch

from tiegym.data.corpora import load_corpus
from tiegym.data.tasks.language import mask_tokens
from tiegym.data.tasks.load import load_task
from tiegym.data.token_data import TokenData

CPU = torch.device("cpu")
MASK, VOCABULARY = 1000, 500


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_bert_masks_fifteen_percent_of_which_most_are_hidden_some_replaced_and_some_kept():
    tokens = torch.randint(VOCABULARY, (400, 100), generator=generator())
    drawn = torch.rand((3, 400, 100), generator=generator(1))
    everything = torch.ones_like(tokens, dtype=torch.bool)
    shown, targets = mask_tokens(tokens, drawn, everything, MASK, VOCABULARY)
    asked = targets != -100
    assert (asked.sum(1) == 15).all()
    assert torch.equal(targets[asked], tokens[asked])
    assert torch.equal(shown[~asked], tokens[~asked])
    hidden = (shown == MASK)[asked].float().mean()
    kept = (shown == tokens)[asked].float().mean()
    assert hidden == pytest.approx(0.8, abs=0.02)  # 6,000 draws: three standard errors
    assert kept == pytest.approx(0.1 + 0.1 / VOCABULARY, abs=0.012)
    replaced = shown[asked & (shown != MASK) & (shown != tokens)]
    assert replaced.max() < VOCABULARY
    assert replaced.float().mean() == pytest.approx(VOCABULARY / 2, rel=0.1)
    assert asked.float().mean(0).std() < 0.03  # no position is asked more than others


def test_short_texts_have_a_mask_and_padding_has_none():
    tokens = torch.randint(VOCABULARY, (50, 20), generator=generator())
    length = torch.arange(50)[:, None] % 20 + 1
    is_text = torch.arange(20) < length
    drawn = torch.rand((3, 50, 20), generator=generator(1))
    _, targets = mask_tokens(tokens, drawn, is_text, MASK, VOCABULARY)
    asked = targets != -100
    assert not (asked & ~is_text).any()
    expected = (0.15 * length[:, 0]).round().clamp(min=1)
    assert torch.equal(asked.sum(1).float(), expected)


@pytest.fixture(scope="module")
def masked():
    return load_task("masked-language-modeling", "synthetic:40000", block_size=32)


def test_windows_of_masked_tokens_have_special_tokens_at_both_ends(masked):
    inputs, targets = masked.data(CPU).sample("train", 8, generator())
    ids = inputs["input_ids"]
    assert ids.shape == targets.shape == (8, 32)
    assert (ids[:, 0] == 257).all()
    assert (ids[:, -1] == 258).all()
    assert (inputs["attention_mask"] == 1).all()
    restored = torch.where(targets == -100, ids, targets)[:, 1:-1]
    text = masked.text.tokenizer.decode(masked.text.train)
    for row in restored:
        assert masked.text.tokenizer.decode(row) in text


def test_the_same_generator_gives_the_same_masks_and_the_next_draw_others(masked):
    data, first = masked.data(CPU), generator(3)
    one, again = data.sample("validation", 4, first), data.sample("validation", 4, generator(3))
    assert torch.equal(one[0]["input_ids"], again[0]["input_ids"])
    assert not torch.equal(one[1], data.sample("validation", 4, first)[1])


def unmasked(task, batches):
    """The tokens of each row, masks undone, and which are asked."""
    rows, asked = [], []
    for inputs, targets in batches:
        ids = torch.where(targets == -100, inputs["input_ids"], targets)
        for row, mask, target in zip(ids, inputs["attention_mask"], targets, strict=True):
            length = int(mask.sum())
            assert (row[length:] == task.pad_id).all()
            assert row[length - 1] == 258
            rows.append(row[1 : length - 1].tolist())
            asked.append((target != -100).nonzero()[:, 0].tolist())
    return rows, asked


def test_batches_read_each_token_of_a_split_once_with_masks_that_stay(masked):
    data = masked.data(CPU)
    rows, asked = unmasked(masked, data.batches("test", 5))
    assert [token for row in rows for token in row] == masked.text.test.tolist()
    assert unmasked(masked, masked.data(CPU).batches("test", 64)) == (rows, asked)
    some, of_some = unmasked(masked, data.batches("test", 5, limit=90))
    assert [len(row) for row in some] == [30, 30, 30]
    assert sum(map(len, of_some)) == 3 * round(0.15 * 30)
    assert some[0] != rows[0]  # from the middle of its share, not from the beginning


def test_the_loss_counts_masked_tokens_only(masked):
    logits = torch.zeros(2, 32, masked.vocab_size)
    targets = torch.full((2, 32), -100)
    targets[0, 3] = targets[1, 7] = 65
    assert masked.loss({"logits": logits}, targets) == pytest.approx(masked.uniform_loss)
    assert masked.uniform_loss == pytest.approx(math.log(260))
    assert masked.count(targets) == 2
    logits[0, 3, 65] = 100.0
    assert masked.loss({"logits": logits}, targets) == pytest.approx(masked.uniform_loss / 2)


def test_language_modelling_has_the_batches_of_token_data():
    task = load_task("language-modeling", "synthetic:40000", block_size=32)
    data = task.data(CPU)
    tokens = TokenData(load_corpus("synthetic:40000"), CPU)
    inputs, targets = data.sample("train", 4, generator())
    expected = tokens.sample("train", 4, 32, generator())
    assert torch.equal(inputs["input_ids"], expected[0])
    assert torch.equal(targets, expected[1])
    asked = [t[t != -100] for _, t in data.batches("test", 4, limit=500)]
    expected = [t.reshape(-1) for _, t in tokens.windows("test", 32, 4, 500)]
    assert torch.equal(torch.cat(asked), torch.cat(expected))
    assert {t.shape[1] for _, t in data.batches("test", 4, limit=500)} == {32}
    assert task.bytes_per_token("test", 500) == 1
    assert task.uniform_loss == math.log(256)
    assert task.metrics().figures() == {}


def test_a_window_without_room_is_an_error():
    with pytest.raises(ValueError, match="block_size=2 has no room for text beside 2 special"):
        load_task("masked-language-modeling", "synthetic:4000", block_size=2)
    task = load_task("masked-language-modeling", "synthetic:400", block_size=64)
    with pytest.raises(ValueError, match="validation split has 20 tokens, but a window needs 62"):
        task.data(CPU).sample("validation", 1, generator())
