"""Tables on a page: each takes the last one's place, and a page without one is an error."""

import pytest

from baselines.page import check_page, put_between_markers, put_on_page
from tiegym.runs.input_errors import InputError


def test_a_page_without_a_place_for_the_table_is_an_input_error(tmp_path):
    (tmp_path / "page.md").write_text("# No markers")
    for page in (tmp_path / "page.md", tmp_path / "nowhere.md"):
        with pytest.raises(InputError, match=r"no place for 'main'|No such file"):
            put_on_page("main", "| table |", page)


def test_a_table_takes_the_place_of_the_last_one():
    page = "# Title\n<!-- a -->\nold\n<!-- end -->\ntext\n<!-- b -->\n<!-- end -->\n"
    once = put_between_markers(page, "a", "| new |\n")
    assert (
        once == "# Title\n<!-- a -->\n\n| new |\n\n<!-- end -->\ntext\n<!-- b -->\n<!-- end -->\n"
    )
    assert put_between_markers(once, "a", "| new |\n") == once
    with pytest.raises(ValueError, match="no place for 'c'"):
        put_between_markers(page, "c", "x")


def test_a_place_that_has_lost_its_end_takes_nothing_of_the_next():
    page = "<!-- a -->\nold\n\nBy hand.\n<!-- b -->\ntable\n<!-- end -->\n"
    with pytest.raises(ValueError, match="'<!-- b -->' between '<!-- a -->' and '<!-- end -->'"):
        put_between_markers(page, "a", "new")
    assert "By hand." in put_between_markers(page, "b", "new")


def test_what_a_page_lacks_is_known_before_there_is_a_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- a -->\n<!-- end -->\n")
    check_page(["a"], page)
    for names, where in ((["a", "b"], page), (["a"], tmp_path), (["a"], tmp_path / "none.md")):
        with pytest.raises(InputError, match=r"no place for 'b'|Is a directory|No such file"):
            check_page(names, where)
    assert page.read_text() == "<!-- a -->\n<!-- end -->\n"


def test_a_page_keeps_its_line_ends_and_stays_where_it_is(tmp_path):
    whole = tmp_path / "whole.md"
    whole.write_bytes(b"# Title\r\n<!-- a -->\r\nold\r\n<!-- end -->\r\n")
    (tmp_path / "page.md").symlink_to(whole)
    put_on_page("a", "| new |\n", tmp_path / "page.md")
    assert (tmp_path / "page.md").is_symlink()
    assert whole.read_bytes() == (b"# Title\r\n<!-- a -->\r\n\r\n| new |\r\n\r\n<!-- end -->\r\n")
