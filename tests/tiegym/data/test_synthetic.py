"""Texts that are made: always the same, and what they claim to be."""

import math
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

from tests.tiegym.data.written import texts
from tiegym.data import synthetic
from tiegym.data.corpora import SPLITS, load_corpus, validate_corpus


@pytest.fixture(scope="module")
def nested():
    return synthetic.nested(3)


def entropy_after(text: str, n: int) -> float:
    """Nats a letter, if the n before it and all counts are known."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for k in range(n, len(text)):
        counts[text[k - n : k]][text[k]] += 1
    total = sum(sum(c.values()) for c in counts.values())
    return (
        -sum(v * math.log(v / sum(c.values())) for c in counts.values() for v in c.values()) / total
    )


def test_nested_text_is_always_the_same():
    # Results that are published rest on these letters.
    corpus = load_corpus("nested:5")
    assert corpus.sha256.startswith("bbb75fe710f48416")
    assert {s: len(t) - 1 for s, t in texts(corpus).items()} == synthetic.NESTED_SIZES


def test_every_letter_that_is_seen_more_helps_until_noise_is_left(nested):
    text = nested["train"][:200_000]
    after = [entropy_after(text, n) for n in range(4)]
    assert min(before - then for before, then in pairwise(after)) > 0.1
    right, others = 0.8 + 0.2 / 8, 0.2 / 8
    noise = -right * math.log(right) - 7 * others * math.log(others)
    assert after[3] == pytest.approx(noise, abs=0.02)


def test_splits_share_tables_and_no_passage(nested):
    follows = {split: defaultdict(Counter) for split in SPLITS}
    for split in SPLITS:
        text = nested[split][:40_000]
        for k in range(3, len(text) - 1):
            follows[split][text[k - 3 : k]][text[k]] += 1
    often = [context for context, n in follows["test"].items() if sum(n.values()) >= 30]
    assert len(often) > 100
    for context in often:
        (train, _), (test, _) = (follows[s][context].most_common(1)[0] for s in ("train", "test"))
        assert train == test
    assert nested["test"][:40] not in nested["train"]


def test_all_rows_constant_forget_what_came_before():
    tables = synthetic._tables(3, 8, 8, synthetic.np.random.default_rng(0))
    assert all(len(set(row)) == 1 for table in tables for row in table)


@pytest.mark.parametrize("name", ["nested:1", "nested:10", "nested:", "nested:x", "nested:05"])
def test_a_wrong_order_is_refused(name):
    with pytest.raises(ValueError, match="nested:N with N from 2 to 9"):
        validate_corpus(name)


@pytest.mark.parametrize("name", ["synthetic:1000000001", "synthetic:" + "9" * 5000])
def test_what_no_memory_holds_is_refused(name):
    with pytest.raises(ValueError, match="at most 1,000,000,000"):
        validate_corpus(name)
