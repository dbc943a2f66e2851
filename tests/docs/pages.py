"""The fenced code blocks of the documentation."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


@dataclass(frozen=True)
class Snippet:
    """A fenced block: its language, its code, and the line of the page on which that begins."""

    page: Path
    language: str
    code: str
    line: int

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets(page: Path) -> list[Snippet]:
    """The fenced blocks of a page, in order, those inside lists and tabs without their indent."""
    found, opened, body = [], None, []
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        fence = re.match(r"(\s*)(`{3,})\s*(\S*)", line)
        if opened is None:
            if fence:
                opened, body = (fence[1], fence[2], fence[3], number + 1), []
        elif fence and fence[2].startswith(opened[1]) and not fence[3]:
            _, _, language, start = opened
            found.append(Snippet(page, language, "\n".join(body) + "\n", start))
            opened = None
        else:
            body.append(line.removeprefix(opened[0]))
    assert opened is None, f"{page}: the block that begins at line {opened[3]} has no end"
    return found
