"""Rows without splits: dealt out by what they hold."""

import random

import pytest

from tiegym.data.tasks.division import complete, deal, deal_files


def test_every_row_is_in_one_part_and_equal_ones_are_together():
    keys = [str(k % 40) for k in range(400)]
    parts = deal(keys)
    assert sorted(row for part in parts for row in part) == list(range(400))
    of = [{keys[row] for row in part} for part in parts]
    assert sum(map(len, of)) == len(set(keys))
    assert [len(part) for part in parts] == [360, 20, 20]


def test_neither_order_nor_labels_decide():
    keys = [f"text {k}" for k in range(300)]
    shuffled = random.Random(0).sample(keys, 300)
    for part, other in zip(deal(keys), deal(shuffled), strict=True):
        assert {keys[row] for row in part} == {shuffled[row] for row in other}


def test_a_key_of_most_rows_leaves_something_for_every_part():
    parts = deal(["same"] * 90 + list("abcdefg"))
    assert sum(map(len, parts)) == 97
    assert min(map(len, parts)) >= 1
    assert [len(part) for part in deal(["a", "b", "c"])] == [1, 1, 1]


def test_too_few_rows_are_an_error():
    with pytest.raises(ValueError, match="2 different rows can't be split into 3"):
        deal(["a", "a", "b"])


def test_only_what_is_missing_is_taken_from_train():
    rows = {"train": [f"row {k}" for k in range(100)], "test": ["x", "y"]}
    made = complete(rows, lambda row: row, "it")
    assert made["test"] == ["x", "y"]
    assert (len(made["train"]), len(made["validation"])) == (95, 5)
    assert sorted(made["train"] + made["validation"]) == sorted(rows["train"])


def test_an_empty_split_is_an_error():
    with pytest.raises(ValueError, match="corpus='it': the test split is empty"):
        complete({"train": ["a", "b"], "validation": ["c"], "test": []}, lambda row: row, "it")


def test_whole_files_are_dealt_once_each_and_large_ones_train():
    texts = [chr(97 + k) * 100 for k in range(20)] + ["z" * 5000]
    dealt = deal_files([*texts, *texts], share=0.1)
    assert sorted(text for found in dealt.values() for text in found) == sorted(texts)
    assert "z" * 5000 in dealt["train"]
    assert [sum(map(len, dealt[split])) for split in ("validation", "test")] == [700, 700]
