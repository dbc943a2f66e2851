"""Labels: what they become, and what they must not be."""

import pytest

from tiegym.data.tasks.labels import number_classes, read_scores


def of_train(*labels):
    return {"train": labels, "validation": labels[:1], "test": labels[-1:]}


def test_names_are_sorted_and_numbers_by_value():
    names, numbers = number_classes(of_train("b", "a", "b", "c", "a", "c"), "it")
    assert names == ("a", "b", "c")
    assert numbers["train"].tolist() == [1, 0, 1, 2, 0, 2]
    names, numbers = number_classes(of_train("10", "9", "10", "9"), "it")  # as CSV has them
    assert names == ("9", "10")
    names, numbers = number_classes(of_train(10.0, 9.0, 10.0, 9.0), "it")  # as JSON has them
    assert names == ("9", "10")
    assert numbers["test"].tolist() == [0]
    assert number_classes(of_train(True, False, True, False), "it")[0] == ("False", "True")


def test_a_data_sets_own_names_stand_for_its_numbers():
    names, numbers = number_classes(of_train(2, 0, 2, 0), "it", names=("no", "maybe", "yes"))
    assert names == ("no", "maybe", "yes")
    assert numbers["train"].tolist() == [2, 0, 2, 0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("a", "a", "a", "a"), "have one label, 'a': there is nothing to tell apart"),
        (("a", "b", "a", None), "row 4 of the train split has no label"),
        (("a", "b", "a", ""), "row 4 of the train split has no label"),
        ((0, 1, 0, -1), r"row 4 of the train split has no label \(-1\)"),
        (("0", "1", "0", "-1"), "row 4 of the train split has no label"),
        ((1.0, 2.5, 1.0, 2.5), "row 2 .* label 2.5, .* call the column 'score'"),
        (("a", ["b"], "a", "b"), "row 2 .* a label is a string or a whole number"),
        (("a", "b", "c", "d"), "4 different labels in 4 rows"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    with pytest.raises(ValueError, match=message):
        number_classes(of_train(*labels), "it")


def test_a_label_that_training_never_sees():
    labels = {"train": list("abab"), "validation": ["a"], "test": ["b", "c"]}
    with pytest.raises(ValueError, match="row 2 of the test split has the label 'c', which no row"):
        number_classes(labels, "it")
    with pytest.raises(ValueError, match="row 1 of the test split has the label '2', which has no"):
        number_classes({"train": [0, 1] * 2, "validation": [0], "test": [2]}, "it", ("no", "yes"))


def test_scores_are_finite_numbers_that_differ():
    assert read_scores(of_train("0.5", 2, 3.25), "it")["train"].tolist() == [0.5, 2, 3.25]
    for wrong in (None, "", "high", "nan", float("inf"), True, [1]):
        with pytest.raises(ValueError, match=r"row 2 of the train split has the score .*no finite"):
            read_scores(of_train(0.5, wrong, 1), "it")
    with pytest.raises(ValueError, match=r"one score, 1\.0"):
        read_scores(of_train(1, 1, 1), "it")


@pytest.mark.parametrize("value", ["1e39", 1e39, "-1e300", 10**400])
def test_a_score_is_one_of_32_bits(value):
    rows = {"train": [1, 2], "validation": [1], "test": [value]}
    with pytest.raises(ValueError, match=r"row 1 of the test split .* no finite number of 32 bits"):
        read_scores(rows, "c")


def test_a_label_that_no_encoding_can_write_is_refused_and_its_row_named():
    rows = {"train": ["a", "b", "a", "\ud800"], "validation": ["a"], "test": ["b"]}
    with pytest.raises(ValueError, match=r"row 4 of the train split .*ud800.* not UTF-8"):
        number_classes(rows, "c")
