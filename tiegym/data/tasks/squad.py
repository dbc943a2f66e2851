"""Questions of SQuAD (Rajpurkar et al. 2016), of the hub, and of a user's files.

Files have SQuAD's own form (version 1: data, paragraphs, qas, answers), or are tables: one question
a row with the columns question, context, answer_text and answer_start, or as the library `datasets`
has SQuAD, with answers, an object of the lists text and answer_start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tiegym.data import hub, table_files
from tiegym.data.table_files import Columns
from tiegym.data.tasks.division import complete
from tiegym.data.tasks.library_questions import questions_of_library
from tiegym.data.tasks.questions import Question, checked
from tiegym.data.tasks.row_files import files_of_splits, read_columns, require_text
from tiegym.data.text_files import read_utf8

PLACE = "rajpurkar/squad"
"""Where it is on the Hugging Face hub."""

_WANTED = ("question", "context", "answer_text", "answer_start", "answers")
_LOCAL = "a folder of train.* and validation.*, in SQuAD's JSON form or as tables"

Kind = TypeVar("Kind")


def read(corpus: str) -> dict[str, list[Question]]:
    """The questions of each split of a corpus that `validate_task` lets pass.

    SQuAD's own test split is secret: there its validation split is the test split, and validation
    is taken from train, by whole contexts.

    Raises:
        ValueError: If columns or entries are missing, an answer doesn't stand in its context, or a
            split is empty or in doubt.
        OSError: If a data set can't be had, or a file can't be read.
    """
    if corpus == "stdlib":
        return complete(questions_of_library(), _context, corpus)
    if corpus == "squad":
        loaded = hub.load(corpus, PLACE, None, _LOCAL)
        places = {"train": ["train"], "test": ["validation"]}
        missing = [name for (name,) in places.values() if name not in loaded]
        if missing:
            raise ValueError(f"corpus='squad' has no split {missing[0]!r}: it is another data set")
    elif corpus.startswith("hf:"):
        identity, _, configuration = corpus.removeprefix("hf:").partition(":")
        loaded = hub.load(corpus, identity, configuration or None, _LOCAL)
        places = hub.keys_of_splits(loaded, corpus)
    else:
        found = {
            split: [question for file in files for question in _read_file(file)]
            for split, files in files_of_splits(Path(corpus), corpus).items()
        }
        return complete(found, _context, corpus)
    found = {
        split: [question for key in keys for question in _of_hub(loaded[key], corpus, key)]
        for split, keys in places.items()
        if keys
    }
    return complete(found, _context, corpus)


def _context(question: Question) -> str:
    return question.context


def _of_hub(table: Any, corpus: str, key: str) -> Iterator[Question]:
    return _of_columns(*hub.columns(table, _WANTED), f"{corpus}, split {key}")


def _read_file(path: Path) -> Iterator[Question]:
    if path.suffix.lower() == ".json":
        try:
            value = table_files.parse_json(read_utf8(path))
        except ValueError:  # JSON lines, or damaged: who reads rows says which
            value = None
        if isinstance(value, dict) and "data" in value:
            return _of_squad(value, str(path))
    return _of_columns(*read_columns(path, _WANTED), str(path))


def _of_columns(columns: Columns, names: list[str], where: str) -> Iterator[Question]:
    """Questions of a table."""
    is_flat = {"answer_text", "answer_start"} <= set(columns)
    if not {"question", "context"} <= set(columns) or is_flat == ("answers" in columns):
        raise ValueError(
            f"{where} needs the columns question, context, and either answer_text and answer_start "
            f"or answers; it has the columns {', '.join(names) or '(none)'}"
        )
    questions = require_text(columns["question"], f"{where}, column 'question'")
    contexts = require_text(columns["context"], f"{where}, column 'context'")
    for number, (question, context) in enumerate(zip(questions, contexts, strict=True)):
        row = f"{where}, row {number + 1}"
        if is_flat:
            texts, starts = [columns["answer_text"][number]], [columns["answer_start"][number]]
        else:
            answers, of_answers = columns["answers"][number], f"{row}, answers"
            texts = _entry(answers, "text", list, of_answers)
            starts = _entry(answers, "answer_start", list, of_answers)
        yield _question(question, context, texts, starts, row)


def _of_squad(value: Mapping[str, Any], where: str) -> Iterator[Question]:
    """Questions of SQuAD's own form."""
    for a, article in enumerate(_entry(value, "data", list, where), start=1):
        place = f"{where}, article {a}"
        for p, paragraph in enumerate(_entry(article, "paragraphs", list, place), start=1):
            of_paragraph = f"{place}, paragraph {p}"
            context = _entry(paragraph, "context", str, of_paragraph)
            for q, asked in enumerate(_entry(paragraph, "qas", list, of_paragraph), start=1):
                row = f"{of_paragraph}, question {q}"
                answers = _entry(asked, "answers", list, row)
                texts = [_entry(answer, "text", str, row) for answer in answers]
                starts = [_entry(answer, "answer_start", float, row) for answer in answers]
                question, whole = require_text([_entry(asked, "question", str, row), context], row)
                yield _question(question, whole, texts, starts, row)


def _question(
    question: str, context: str, texts: list[Any], starts: list[Any], where: str
) -> Question:
    if not texts or texts[0] in (None, ""):
        return checked(question, context, [], 0, where)  # raises
    try:
        first = float(starts[0])
        if isinstance(starts[0], bool) or not first.is_integer():
            raise ValueError(starts[0])
    except (IndexError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: its answer needs answer_start, the number of its first character; it has "
            f"{starts[0] if starts else None!r}"
        ) from error
    return checked(question, context, require_text(texts, f"{where}, answers"), int(first), where)


def _entry(value: Any, key: str, kind: type[Kind], where: str) -> Kind:
    """An entry of an object of JSON, of the right type."""
    found = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(found, kind):
        what = {list: "a list", str: "a string", float: "a number"}[kind]
        raise ValueError(f"{where}: it needs an entry {key!r} that is {what}")
    return found
