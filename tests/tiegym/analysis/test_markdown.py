"""Tables in Markdown."""

from tiegym.analysis.markdown import markdown_table


def test_columns_of_numbers_stand_to_the_right():
    text = markdown_table(("policy", "loss", "note"), [("tied", 1.5, ""), ("a", 2, "b")], (0, 2))
    assert text.splitlines() == [
        "| policy | loss | note |",
        "| --- | ---: | --- |",
        "| tied | 1.5 |  |",
        "| a | 2 | b |",
    ]


def test_a_table_without_rows_has_its_head():
    assert markdown_table(("n", "loss"), [], ()) == "| n | loss |\n| ---: | ---: |\n"
