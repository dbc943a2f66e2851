"""Extractive question answering: where in its context does the answer to a question stand?

A row is a question and a window of its context. Contexts that don't fit are read in windows that
overlap, as BERT does (Devlin et al. 2019). A window without the whole answer has its first token as
target, start and end. The answer to a question is the best span of all of its windows.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tiegym.data import tokenization
from tiegym.data.splits import SPLITS
from tiegym.data.tasks import squad, squad_metrics
from tiegym.data.tasks.questions import Question
from tiegym.data.tasks.row_data import RowData, Rows
from tiegym.data.tasks.task import Metrics, Outputs, Task, cross_entropy, digest
from tiegym.data.tasks.text_encoding import TextEncoder, text_encoder

NOWHERE = 0
"""The position of start and end where a window lacks the answer: the first token's."""

Offsets = list[tuple[int, int]]


@dataclass(frozen=True)
class Window:
    """Which part of a context a row holds.

    Attributes:
        question: Its question's number, over all splits.
        begin: Position of the context's first token in the row.
        offsets: Of each token of the context, its first character and the one behind its last.
    """

    question: int
    begin: int
    offsets: Offsets


@dataclass(frozen=True, kw_only=True)
class QuestionAnswering(Task):
    """Positions of an answer's first and last token.

    Targets are int64 (B, 3): start, end, and the number of the window, by which the metrics find
    the text.

    Attributes:
        questions: Of all splits.
        windows: Of all splits.
        longest: Tokens of the longest answer that is learned; a prediction is no longer.
    """

    rows: dict[str, Rows] = field(repr=False)
    encoder: TextEncoder = field(repr=False)
    questions: list[Question] = field(repr=False)
    windows: list[Window] = field(repr=False)
    longest: int

    def data(self, device: torch.device) -> RowData:
        """The windows on a device; a limit counts questions."""
        return RowData(self.rows, device, self.encoder.inputs)

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """The mean of the cross-entropies of start and end, over all positions of the row."""
        start = cross_entropy(outputs["start_logits"], targets[:, 0])
        return (start + cross_entropy(outputs["end_logits"], targets[:, 1])) / 2

    def count(self, targets: Tensor) -> int:
        """Windows."""
        return len(targets)

    def metrics(self) -> Metrics:
        """Exact match and F1."""
        return Answers(self)


class Answers:
    """Exact match and F1 over the questions whose windows were added; see `Metrics`.

    Of each question the span with the largest sum of start and end logit counts, of all windows
    that were added: of `batches` that is the whole context.
    """

    def __init__(self, task: QuestionAnswering) -> None:
        """Starts with none."""
        self._task = task
        self._best: dict[int, tuple[float, str]] = {}

    def add(self, outputs: Outputs, targets: Tensor) -> None:
        """Finds the best span of each window."""
        task = self._task
        starts = outputs["start_logits"].detach().float().cpu()
        ends = outputs["end_logits"].detach().float().cpu()
        for start, end, number in zip(starts, ends, targets[:, 2].tolist(), strict=True):
            window = task.windows[number]
            context = slice(window.begin, window.begin + len(window.offsets))
            score, first, last = best_span(start[context], end[context], task.longest)
            text = task.questions[window.question].context
            answer = text[window.offsets[first][0] : window.offsets[last][1]]
            before = self._best.get(window.question)
            if before is None or score > before[0]:
                self._best[window.question] = (score, answer)

    def figures(self) -> dict[str, float]:
        """Both, from 0 to 1, as means over questions."""
        if not self._best:
            raise ValueError("no predictions were added: there is nothing to measure")
        pairs = [(answer, self._task.questions[q].answers) for q, (_, answer) in self._best.items()]
        metrics = {"exact_match": squad_metrics.exact_match, "f1": squad_metrics.f1}
        return {
            name: sum(squad_metrics.best(metric, *pair) for pair in pairs) / len(pairs)
            for name, metric in metrics.items()
        }


def best_span(start: Tensor, end: Tensor, longest: int) -> tuple[float, int, int]:
    """The largest sum of a start logit and an end logit, and both positions.

    Args:
        start: (T,).
        end: (T,); a span's end is at its start or up to longest - 1 tokens behind it.
        longest: Tokens.
    """
    is_span = torch.ones(len(start), len(start)).triu().tril(longest - 1).bool()
    sums = (start[:, None] + end).masked_fill(~is_span, -math.inf)
    place = int(sums.argmax())
    first, last = divmod(place, len(start))
    return float(sums[first, last]), first, last


def question_answering(corpus: str, tokenizer: str, block_size: int) -> QuestionAnswering:
    """The task of finding answers.

    Raises:
        ValueError: If questions or answers don't fit, or block_size has no room.
        OSError: If the data can't be had.
    """
    by_split = squad.read(corpus)
    train = by_split["train"]
    texts = dict.fromkeys(text for asked in train for text in (asked.context, asked.question))
    made = tokenization.make_tokenizer(tokenizer, "\n".join(texts) + "\n")
    encoder = text_encoder(made, train[0].context[:1000])
    room = block_size - len(encoder.pair)
    if room < 4:
        raise ValueError(
            f"block_size={block_size} has no room for a question and a context beside "
            f"{len(encoder.pair)} special tokens: raise it"
        )
    questions: list[Question] = []
    windows: list[Window] = []
    rows = {}
    longest = 1
    for split in SPLITS:
        found = list(_windows(by_split[split], encoder, room, len(questions)))
        numbers = range(len(windows), len(windows) + len(found))
        columns = encoder.join([(w.asked, w.tokens) for w in found], block_size)
        targets = [(w.start, w.end, number) for w, number in zip(found, numbers, strict=True)]
        unit = np.array([w.window.question - len(questions) for w in found], dtype=np.int64)
        rows[split] = Rows(columns, np.array(targets, dtype=np.int64), unit)
        questions += by_split[split]
        windows += [w.window for w in found]
        if split == "train":
            longest = max(w.end - w.start + 1 for w in found)
    content = (
        part
        for split in SPLITS
        for q in by_split[split]
        for part in (split, q.question, q.context, str(q.start), *q.answers)
    )
    return QuestionAnswering(
        name="question-answering",
        corpus=corpus,
        head="question-answering",
        metric_names=("exact_match", "f1"),
        uniform_loss=math.log(block_size),
        sha256=digest(content),
        n_rows={split: len(of_split.targets) for split, of_split in rows.items()},
        tokenizer=made,
        vocab_size=encoder.vocab_size,
        pad_id=encoder.pad,
        end_id=encoder.end,
        block_size=block_size,
        n_labels=2,
        rows=rows,
        encoder=encoder,
        questions=questions,
        windows=windows,
        longest=longest,
    )


@dataclass(frozen=True)
class _Row:
    window: Window
    asked: list[int]
    tokens: list[int]
    start: int
    end: int


def _windows(
    questions: list[Question], encoder: TextEncoder, room: int, first: int
) -> Iterator[_Row]:
    """The windows of each question, in order.

    Questions are cut to half of the room (BERT cuts them to 64 tokens of 384); windows overlap by
    half of what remains.
    """
    contexts = list(dict.fromkeys(question.context for question in questions))
    found = dict(zip(contexts, encoder.tokens_and_offsets(contexts), strict=True))
    all_asked = encoder.tokens([question.question for question in questions])
    for number, (question, asked) in enumerate(zip(questions, all_asked, strict=True), start=first):
        ids, offsets = found[question.context]
        if not ids:
            raise ValueError(f"the tokenizer has no token for the context {question.context!r}")
        asked = asked[: room // 2]
        begin = len(encoder.pair.before) + len(asked) + len(encoder.pair.between)
        start, end = answer_tokens(offsets, question.start, question.answers[0])
        for low in first_tokens(len(ids), room - len(asked)):
            high = min(low + room - len(asked), len(ids))
            has_answer = low <= start and end < high
            yield _Row(
                Window(number, begin, offsets[low:high]),
                asked,
                ids[low:high],
                begin + start - low if has_answer else NOWHERE,
                begin + end - low if has_answer else NOWHERE,
            )


def first_tokens(total: int, width: int) -> list[int]:
    """Where windows of a context begin; each but the last overlaps with the next by half of it.

    Examples:
        >>> first_tokens(total=10, width=4), first_tokens(total=3, width=4)
        ([0, 2, 4, 6], [0])
    """
    last = max(total - width, 0)
    return [*range(0, last, width - width // 2), last]


def answer_tokens(offsets: Offsets, start: int, answer: str) -> tuple[int, int]:
    """The first and the last token of an answer.

    Args:
        offsets: Of the context's tokens.
        start: The answer's first character.
        answer: Its text.
    """
    ends = [end for _, end in offsets]
    starts = [begin for begin, _ in offsets]
    first = min(bisect.bisect_right(ends, start), len(offsets) - 1)
    last = bisect.bisect_left(starts, start + len(answer)) - 1
    return first, max(first, last)
