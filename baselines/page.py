"""A page whose tables a program writes: where they stand, and how they get there."""

from __future__ import annotations

import re
from pathlib import Path

from tiegym.atomic_write import write_bytes
from tiegym.runs.input_errors import as_input_errors


def put_between_markers(page: str, name: str, text: str) -> str:
    """The page with the text between `<!-- name -->` and `<!-- end -->`.

    Raises:
        ValueError: If the page has no such markers.
    """
    pattern = rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)"
    result, count = re.subn(
        pattern, lambda m: f"{m[1]}\n{text}\n{m[2]}", page, count=1, flags=re.DOTALL
    )
    if not count:
        raise ValueError(
            f"the page has no place for {name!r}: put '<!-- {name} -->' and '<!-- end -->' on "
            "lines of their own where the table belongs"
        )
    return result


def put_on_page(name: str, table: str, page: Path) -> None:
    """Writes the table of a study into the page; how to read it the page says once.

    Raises:
        InputError: If the page can't be read, or has no place for it.
    """
    with as_input_errors():
        write_bytes(page, put_between_markers(page.read_text(), name, table).encode())
