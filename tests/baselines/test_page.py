"""Tables on a page: each takes the last one's place, and a page without one is an error."""

import pytest

from baselines.page import put_between_markers, put_on_page
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
