"""Text from files and command lines as one line of what can be seen: nothing steers a terminal."""

from __future__ import annotations


def printable(text: object) -> str:
    r"""A text in which escapes stand for characters that can't be seen; line ends are blanks.

    For whatever a file, a folder's name or a user's argument brings into a message or a table:
    an escape sequence in it would colour, erase or forge lines of the terminal.

    Examples:
        >>> printable("runs/a\x1b[2J\nb")
        'runs/a\\x1b[2J b'
    """
    line = " ".join(str(text).splitlines())
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in line
    )
