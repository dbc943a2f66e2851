"""Which split a name means, and shares that hold."""

import warnings
from pathlib import PurePath

import pytest
from datasets import data_files
from hypothesis import given
from hypothesis import strategies as st

from tiegym.data import splits
from tiegym.data.splits import SPLITS


def test_keywords_are_those_of_the_library_datasets():
    theirs = {str(split): tuple(words) for split, words in data_files.SPLIT_KEYWORDS.items()}
    assert theirs == splits.KEYWORDS


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.txt", "train"),
        ("wiki.train.raw", "train"),
        ("wiki.valid.tokens", "validation"),
        ("ptb.valid.txt", "validation"),
        ("data/train-00000-of-00001.parquet", "train"),
        ("data/validation-00000-of-00002-abc.parquet", "validation"),
        ("val/a.txt", "validation"),
        ("Dev/deep/er/a.txt", "validation"),
        ("TEST.JSONL", "test"),
        ("test_0.csv", "test"),
        ("test2.csv", "test"),
        ("eval.txt", "test"),
        ("my evaluation set.txt", "test"),
        ("testset.txt", "test"),
        ("train", "train"),
        ("corpus_train/part.txt", "train"),
        ("enwik8-train.en", "train"),
        ("news.en.heldout-00000-of-00050", "test"),
    ],
)
def test_usual_names_mean_their_split(path, split):
    assert splits.named(PurePath(path)) == {split}


@pytest.mark.parametrize(
    "path", ["a.txt", "training1a/x", "trained.txt", "contest.txt", "devil.txt", "valley/é.txt"]
)
def test_other_names_mean_none_unless_a_keyword_stands_alone(path):
    assert splits.named(PurePath(path)) == ({"train"} if path.startswith("training1") else set())


def test_a_name_of_two_splits_means_both():
    assert splits.named(PurePath("test/train.txt")) == {"train", "test"}


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=40))
def test_shares_hold_and_nothing_is_lost_whatever_the_files_lengths(lengths):
    texts = [f"{k}:" + "x" * length for k, length in enumerate(lengths)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dealt = splits.deal(texts)
    total = sum(map(len, texts))
    assert sum(len(dealt[s]) for s in SPLITS) == total
    shares = [len(dealt[s]) / total for s in SPLITS]
    slack = 2 / total  # characters are whole
    assert 0.85 - slack <= shares[0] <= 0.95 + slack
    assert all(0.025 - slack <= share <= 0.10 + slack for share in shares[1:])


def test_files_of_like_length_stay_whole():
    texts = [f"{k:03d}" * 50 for k in range(60)]
    dealt = splits.deal(texts)
    assert all(sum(text in dealt[s] for s in SPLITS) == 1 for text in texts)


def test_a_long_file_beside_short_ones_is_cut_with_a_warning():
    with pytest.warns(UserWarning, match="differ too much in length.*within files"):
        dealt = splits.deal(["book " * 10_000, "poem a", "poem b", "poem c"])
    assert all("book" in dealt[s] for s in SPLITS)
