"""A question about a text that holds its answer, and the checks that every source needs."""

from __future__ import annotations

from typing import NamedTuple

_NEAR = (0, -1, 1, -2, 2)
"""Characters by which files may misplace an answer, as some copies of SQuAD do."""


class Question(NamedTuple):
    """A row of extractive question answering.

    Attributes:
        question: What is asked.
        context: The text.
        answers: What counts as right; training learns the first.
        start: The first answer's place in the context, in characters.
    """

    question: str
    context: str
    answers: tuple[str, ...]
    start: int


def checked(question: str, context: str, answers: list[str], start: int, where: str) -> Question:
    """A question whose first answer stands where it says.

    Args:
        question: What is asked.
        context: The text.
        answers: As in `Question`.
        start: As in `Question`; up to two characters off are mended.
        where: What messages call the row.

    Raises:
        ValueError: If there is no answer, or it stands elsewhere.
    """
    if not answers or not answers[0].strip():
        raise ValueError(
            f"{where} has no answer. Questions without, as in SQuAD 2.0, are no part of this task: "
            "remove them"
        )
    for place in (start + off for off in _NEAR):
        if place >= 0 and context.startswith(answers[0], place):
            return Question(question, context, tuple(answers), place)
    raise ValueError(
        f"{where}: the answer {_short(answers[0])} doesn't stand at character {start} of its "
        f"context, where {_short(context[max(start, 0) : start + 40])} is"
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "...")
