"""A page whose tables a program writes: where they stand, and how they get there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tiegym.atomic_write import write_bytes
from tiegym.runs.input_errors import as_input_errors


def put_between_markers(page: str, name: str, text: str) -> str:
    """The page with the text between `<!-- name -->` and `<!-- end -->`.

    Raises:
        ValueError: If the page has no such markers, or others between them.
    """
    place = re.search(rf"<!-- {re.escape(name)} -->\r?\n(.*?)<!-- end -->", page, re.DOTALL)
    if place is None:
        raise ValueError(
            f"the page has no place for {name!r}: put '<!-- {name} -->' and '<!-- end -->' on "
            "lines of their own where the table belongs"
        )
    if other := re.search(r"^<!-- .* -->", place[1], re.MULTILINE):
        raise ValueError(
            f"the page has {other[0]!r} between '<!-- {name} -->' and '<!-- end -->': put the end "
            f"that the place for {name!r} has lost on a line of its own behind its table"
        )
    begin, end = place.span(1)
    return f"{page[:begin]}\n{text}\n{page[end:]}"


def check_page(names: Iterable[str], page: Path) -> None:
    """Makes sure that the tables of studies can go there, which are made in hours.

    Raises:
        InputError: If the page can't be read, or has no place for one of them.
    """
    with as_input_errors():
        content = _read(page)
        for name in names:
            put_between_markers(content, name, "")


def put_on_page(name: str, table: str, page: Path) -> None:
    """Writes the table of a study into the page; how to read it the page says once.

    Raises:
        InputError: If the page can't be read, or has no place for it.
    """
    with as_input_errors():
        content = put_between_markers(_read(page), name, table)
        if "\r\n" in content:
            content = content.replace("\r\n", "\n").replace("\n", "\r\n")
        write_bytes(page.resolve(), content.encode())  # which may be linked


def _read(page: Path) -> str:
    """The page, line ends as they are."""
    return page.read_bytes().decode()
