"""Tables and text in Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterable, Sequence

from tiegym.runs.printable import printable


def markdown_table(
    headings: Sequence[str], rows: Iterable[Sequence[object]], left: Collection[int] = (0,)
) -> str:
    """A table in Markdown.

    Args:
        headings: Of its columns.
        rows: Cells that are Markdown already, as many as there are headings.
        left: The columns that stand to the left; numbers stand to the right.

    Examples:
        >>> print(markdown_table(("policy", "loss"), [("tied", 1.87)]), end="")
        | policy | loss |
        | --- | ---: |
        | tied | 1.87 |
    """
    rule = ["---" if k in left else "---:" for k in range(len(headings))]
    lines = (headings, rule, *rows)
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def markdown_text(text: str) -> str:
    r"""A text that Markdown shows as it is: no markup, no HTML, no new cell, no new line.

    Stars and underscores stay where they can't pair up across words, as in `env.n_layer` and
    `better*`.

    Examples:
        >>> markdown_text("a|b <i>c</i>")
        'a\\|b &lt;i&gt;c&lt;/i&gt;'
    """
    escaped = html.escape(printable(text), quote=False).replace("\\", "\\\\")
    escaped = re.sub(r"([|`~]|[\[\]](?=[(\[:])|\[(?=[^\]]*\][(\[:]))", r"\\\1", escaped)
    return re.sub(r"((?<!\w)_(?=\S)|\*(?=\S))", r"\\\1", escaped)
