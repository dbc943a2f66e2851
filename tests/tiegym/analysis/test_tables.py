"""The table of a comparison: its figures, what is said of them, and its forms."""

import csv
import re

import pytest
from rich.console import Console

from tests.tiegym.analysis.made_up import make_row
from tiegym.analysis import forms, tables

RANDOM = [2.0, 2.1, 2.0, 2.1]


def cell(rows, policy, heading):
    (line,) = (forms.cells(f) for f in tables.make_table(rows) if f["policy"] == policy)
    (place,) = (k for k, name in enumerate(forms.HEADINGS) if heading in name)
    return line[place]


def written(rows):
    table = tables.make_table(rows)
    return forms.markdown(table, tables.setting(rows, table), tables.READING)


def test_the_table_has_a_row_for_each_policy_and_the_null_model(tmp_path):
    rows = [make_row([1.0, 1.1]), make_row([2.0, 2.1], "random", "random_tying")]
    text = written(rows)
    assert "2.08 independent layers on average" in text
    assert text.count("\n| qlearning |") == text.count("\n| random |") == 1
    forms.write_csv(tables.make_table(rows), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["policy"] for line in lines] == ["qlearning", "random"]
    assert float(lines[0]["null_difference"]) == pytest.approx(-1)
    assert lines[0]["null_verdict"] == "2 seeds: too few to say"
    assert lines[0]["null_p_holm"] == lines[1]["null_p_value"] == ""


def test_the_page_has_seven_columns_numbers_to_the_right_and_the_rest_is_in_the_csv():
    rows = [make_row([1.0, 1.1]), make_row(RANDOM, program="random_tying")]
    head, rule = written(rows).splitlines()[4:6]
    assert head.count("|") == 8
    assert rule == "| --- | --- | ---: | ---: | ---: | --- | --- |"
    assert {"seeds", "test_bits_per_byte", "trainable_params", "seconds_per_iteration"} <= set(
        tables.make_table(rows)[0]
    )
    assert "random_fixed_verdict" in tables.make_table(rows)[0]


@pytest.mark.parametrize("width", [30, 80, 100, 140, 220])
def test_a_terminal_shows_whole_columns_the_important_ones_first(width):
    name = "dqn --learning-rate 1e-4"
    rows = [make_row([1.0, 1.1, 1.2, 1.1], name), make_row(RANDOM, "random", "random_tying")]
    console = Console(width=width)
    with console.capture() as capture:
        console.print(forms.terminal_table(tables.make_table(rows), width))
    printed = capture.get()
    assert all(len(line) <= width for line in printed.splitlines())
    assert "…" not in printed
    assert "dqn --learning-rate 1e-4" in printed
    assert ("[2.718, 3.320]" in printed) == (width >= 80)
    assert ("better" in printed) == (width >= 80)
    assert ("online" in printed) == (width >= 100)


def test_a_star_marks_what_stands_among_all_tests_of_its_column():
    rows = [
        make_row([1.0, 1.1, 1.0, 1.1], "far"),
        make_row([1.7, 2.0, 1.8, 1.8], "near"),
        make_row(RANDOM, "random", "random_tying"),
    ]
    assert cell(rows, "near", "null model") == "random: better*"
    others = [make_row(RANDOM, f"like random {k}") for k in range(20)]
    assert cell(rows + others, "near", "null model") == "random: better"
    assert cell(rows + others, "far", "null model") == "random: better*"
    assert cell(rows + others, "like random 0", "null model") == "random: no difference shown"
    few = make_row([1.0, 1.0, 1.0], "few")
    assert cell([*rows, few], "few", "null model") == "random: 3 seeds: too few to say"
    assert "Tests: 2 with null models." in written([*rows, few])


def test_the_fixed_pattern_is_named_with_its_verdict():
    rows = [
        make_row([1.0, 1.1, 1.0, 1.1], "ours"),
        make_row([0.5, 0.51, 0.5, 0.52], "cycle:2", "fixed-cycle:2"),
    ]
    heading = "best pattern of its size"
    assert cell(rows, "ours", heading) == "cycle:2: worse*"
    assert cell(rows, "cycle:2", heading) == ""
    assert "Tests: 1 with patterns." in written(rows)


def test_diverged_runs_are_counted_and_named():
    rows = [make_row([1.0, 1.1, 20.0])]
    assert "; 3 seeds." in written(rows)
    rows[0].runs[2].summary["final"]["diverged"] = True
    assert "; 3 seeds, 1 of qlearning diverged." in written(rows)
    assert tables.make_table(rows)[0]["diverged"] == 1
    assert "; 1 to 3 seeds" in written([*rows, make_row([1.0], "short")])


def test_the_caption_names_training_settings_that_differ_policy_by_policy():
    rows = [
        make_row([1.0], "a", learning_rate=3e-3),
        make_row([1.0], "b"),
        make_row([1.0], "c"),
        make_row([1.0], "d", learning_rate=3e-3, dropout=0.1),
        make_row([1.0], "e"),
    ]
    text = tables.setting(rows, tables.make_table(rows))
    assert "learning_rate is 0.001, but 0.003 for a, d. dropout is 0.0, but 0.1 for d." in text
    assert "weight_decay" not in text


def test_perplexities_have_four_digits():
    assert cell([make_row([2.0])], "qlearning", "test perplexity") == "7.389"
    shown = {9.9994: "9.999", 9.9996: "10.00", 99.994: "99.99", 99.996: "100.0", 9999.6: "10,000"}
    assert {value: forms.four_digits(value) for value in shown} == shown


def test_a_shallow_row_does_not_say_how_many_layers_the_comparison_has():
    rows = [make_row([1.0], "shallow:2", "shallow-2", n_layer=2), make_row([1.0])]
    assert written(rows).startswith("4 layers, ")
    assert [f["n_layer"] for f in tables.make_table(rows)] == [2, 4]


HOSTILE = (
    "a|b",
    "a\nb | c",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[bold red]x[/bold red] [link=file:///etc]y[/link]",
    "\x1b[2Jcleared\x07",
    "\u202egnp.exe",
    "`code` *star* _line_ \\",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_text_in_markdown(name):
    rows = [make_row([1.0, 1.1], name), make_row([2.0, 2.1], name, "random_tying")]
    lines = written(rows).splitlines()
    assert len(lines) == 8  # two paragraphs, a head, two rows
    for line in lines[4:]:
        assert line.replace("\\|", "").count("|") == 8
    text = "\n".join(lines)
    assert "<img" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert all(c.isprintable() for line in lines for c in line)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_text_on_a_terminal(name):
    console = Console(width=200, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(forms.terminal_table(tables.make_table([make_row([1.0], name)]), 200))
    printed = capture.get()
    assert "\x1b[2J" not in printed
    assert "\x07" not in printed
    assert "\u202e" not in printed
    assert "\x1b]8;" not in printed  # a link
    if "[bold red]" in name:
        assert "[bold red]x[/bold red]" in printed


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t=", "\r=", " =", "\n@"])
def test_a_name_is_no_formula_in_a_spreadsheet(begin, tmp_path):
    name = f"{begin}cmd|'/c calc'!A1"
    rows = [make_row([1.0, 1.1], name), make_row([2.0, 2.1], name, "random_tying")]
    forms.write_csv(tables.make_table(rows), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [lines[0]["policy"], lines[0]["null"]] == ["'" + name] * 2
    assert float(lines[0]["null_difference"]) < 0  # a number stays one


def of_a_task(row, accuracies):
    """The same runs, of a task that has accuracy and no bits per byte."""
    for run, accuracy in zip(row.runs, accuracies, strict=True):
        run.config["env"] |= {"model": "bert", "task": "classification"}
        run.summary["final"] |= {"test_accuracy": accuracy}
        del run.summary["final"]["test_bits_per_byte"]
    return row


def test_a_task_s_metrics_have_a_column_and_bits_per_byte_may_be_missing():
    rows = [make_row([1.0, 1.1]), make_row([2.0, 2.1], "random", "random_tying")]
    rows = [of_a_task(rows[0], [0.5, 0.75]), of_a_task(rows[1], [0.25, 0.25])]
    assert cell(rows, "qlearning", "metrics") == "accuracy 0.625"
    table = tables.make_table(rows)
    assert [f["test_accuracy"] for f in table] == [0.625, 0.25]
    assert [f["test_bits_per_byte"] for f in table] == [None, None]
    assert "Model bert, task classification: 4 layers" in written(rows)
    assert "| test metrics |" in written(rows)
    assert "| accuracy 0.250 |" in written(rows)
