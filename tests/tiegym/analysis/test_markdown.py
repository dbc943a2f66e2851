"""Tables in Markdown."""

from tiegym.analysis.markdown import markdown_table, markdown_text


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


def test_stars_and_waves_in_words_are_no_markup():
    assert markdown_text("lr=1*2*3 ~~x~~ better*") == r"lr=1\*2\*3 \~\~x\~\~ better*"
