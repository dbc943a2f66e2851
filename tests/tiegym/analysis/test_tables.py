"""The table of a comparison: its columns, its caption, its forms."""

import csv

import pytest
from rich.console import Console

from tests.tiegym.analysis.made_up import make_row
from tiegym.analysis import tables

RANDOM = [2.0, 2.1, 2.0, 2.1]


def cell(rows, policy, heading):
    (line,) = (tables.cells(f) for f in tables.make_table(rows) if f["policy"] == policy)
    return line[tables.HEADINGS.index(heading)]


def test_the_table_has_a_row_for_each_policy_and_the_null_model(tmp_path):
    rows = [make_row([1.0, 1.1]), make_row([2.0, 2.1], program="random_tying")]
    table = tables.make_table(rows)
    text = tables.markdown(table, tables.caption(rows, table))
    assert "2.08 independent layers on average" in text
    assert text.count("\n| qlearning |") == text.count("\n| random_tying |") == 1
    tables.write_csv(table, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["policy"] for line in lines] == ["qlearning", "random_tying"]
    assert float(lines[0]["random_difference"]) == pytest.approx(-1)
    assert lines[0]["random_verdict"] == "2 seeds: too few to say"
    assert lines[0]["random_p_holm"] == lines[1]["random_p_value"] == ""


@pytest.mark.parametrize("width", [30, 80, 100, 140, 220])
def test_a_terminal_shows_whole_columns_the_important_ones_first(width):
    name = "dqn --learning-rate 1e-4"
    rows = [make_row([1.0, 1.1, 1.2, 1.1], name), make_row(RANDOM, program="random_tying")]
    console = Console(width=width)
    with console.capture() as capture:
        console.print(tables.terminal_table(tables.make_table(rows), width))
    printed = capture.get()
    assert all(len(line) <= width for line in printed.splitlines())
    assert "…" not in printed
    assert "dqn --learning-rate 1e-4" in printed
    assert ("[2.718, 3.320]" in printed) == (width >= 80)
    assert ("better" in printed) == (width >= 80)
    assert ("online" in printed) == (width >= 100)
    assert ("0.1000" in printed) == (width == 220)  # seconds for an iteration


def test_a_star_marks_what_stands_among_all_tests_of_its_column():
    rows = [
        make_row([1.0, 1.1, 1.0, 1.1], "far"),
        make_row([1.7, 2.0, 1.8, 1.8], "near"),
        make_row(RANDOM, "random", "random_tying"),
    ]
    assert cell(rows, "near", "against random") == "better*"
    others = [make_row(RANDOM, f"like random {k}") for k in range(20)]
    assert cell(rows + others, "near", "against random") == "better"
    assert cell(rows + others, "far", "against random") == "better*"
    assert cell(rows + others, "like random 0", "against random") == "no difference shown"
    few = make_row([1.0, 1.0, 1.0], "few")
    assert cell([*rows, few], "few", "against random") == "3 seeds: too few to say"
    table = tables.make_table([*rows, few])
    text = tables.caption([*rows, few], table)
    assert "(2 against random)" in text
    assert "nearest size" not in text


def test_the_fixed_pattern_is_named_with_its_verdict():
    rows = [
        make_row([1.0, 1.1, 1.0, 1.1], "ours"),
        make_row([0.5, 0.51, 0.5, 0.52], "cycle:2", "fixed-cycle:2"),
    ]
    heading = "against best fixed of nearest size"
    assert cell(rows, "ours", heading) == "cycle:2: worse*"
    assert cell(rows, "cycle:2", heading) == ""
    text = tables.caption(rows, tables.make_table(rows))
    assert "(1 against patterns)" in text
    assert "nearest size has as many independent layers" in text


def test_diverged_runs_are_counted():
    rows = [make_row([1.0, 1.1, 20.0])]
    assert cell(rows, "qlearning", "seeds") == "3"
    rows[0].runs[2].summary["final"]["diverged"] = True
    assert cell(rows, "qlearning", "seeds") == "3 (1 diverged)"


def test_the_caption_names_training_settings_that_differ_policy_by_policy():
    rows = [
        make_row([1.0], "a", learning_rate=3e-3),
        make_row([1.0], "b"),
        make_row([1.0], "c"),
        make_row([1.0], "d", learning_rate=3e-3, dropout=0.1),
        make_row([1.0], "e"),
    ]
    text = tables.caption(rows, tables.make_table(rows))
    assert "learning_rate is 0.001, but 0.003 for a, d. dropout is 0.0, but 0.1 for d." in text
    assert "weight_decay" not in text


def test_perplexities_have_four_digits():
    assert cell([make_row([2.0])], "qlearning", "test perplexity, IQM [95 % CI]") == "7.389"
