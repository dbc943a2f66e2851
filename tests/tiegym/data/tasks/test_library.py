"""The standard library as labelled pieces and as questions: real data on every machine."""

import sysconfig
from collections import Counter
from pathlib import Path

import pytest

from tiegym.data.sources import read_source
from tiegym.data.tasks import library_code
from tiegym.data.tasks.library_questions import questions_of_library, questions_of_module
from tiegym.data.tasks.squad_metrics import normalize

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def pieces():
    return library_code.pieces_of_packages()


@pytest.fixture(scope="module")
def questions():
    return questions_of_library()


def test_each_package_has_as_many_pieces_of_a_split_as_the_others(pieces):
    assert tuple(pieces) == SPLITS
    for split, least in zip(SPLITS, (400, 40, 40), strict=True):
        counts = Counter(package for _, package in pieces[split])
        assert set(counts) == set(library_code.PACKAGES)
        assert len(set(counts.values())) == 1
        assert min(counts.values()) >= least


def test_no_piece_is_in_two_splits_and_none_twice(pieces):
    texts = [piece for split in SPLITS for piece, _ in pieces[split]]
    assert len(set(texts)) == len(texts)


def test_pieces_of_a_file_are_in_one_split(pieces):
    root = Path(sysconfig.get_paths()["stdlib"])
    sources = [read_source(p) for p in sorted((root / "email").glob("*.py"))]
    # A piece that stands in two files tells nothing of either.
    of = {s: [p for p, package in pieces[s] if package == "email"] for s in SPLITS}
    holders = {
        split: {n for piece in found for n in [_only_file(piece, sources)] if n is not None}
        for split, found in of.items()
    }
    assert all(holders.values())
    assert not holders["train"] & holders["test"]
    assert not holders["train"] & holders["validation"]
    assert not holders["validation"] & holders["test"]


def _only_file(piece, sources):
    found = [number for number, source in enumerate(sources) if piece in source]
    return found[0] if len(found) == 1 else None


def test_answers_stand_once_in_their_contexts_and_contexts_in_one_split(questions):
    assert min(len(found) for found in questions.values()) > 100
    for found in questions.values():
        for q in found:
            (answer,) = q.answers
            assert q.context[q.start :].startswith(answer)
            assert q.context.count(answer) == 1
            assert normalize(answer)
    contexts = {split: {q.context for q in found} for split, found in questions.items()}
    assert not contexts["train"] & (contexts["validation"] | contexts["test"])
    assert not contexts["validation"] & contexts["test"]


def test_no_answer_is_right_for_many_questions(questions):
    answers = Counter(answer for q in questions["test"] for answer in q.answers)
    assert answers.most_common(1)[0][1] < 0.2 * len(questions["test"])


def test_questions_about_a_definition():
    source = (
        "class Ä(Base):\n"
        "    'A class. Not about defaults.'\n"
        "    def naïve(self, a, b=(1, 2), *, c='x  y', d=None):\n"
        '        """Return the number of\n'
        "        things; or not.\n"
        "\n"
        "        Returns nothing here.\n"
        '        """\n'
        "    def plain(self, e=7): pass\n"
        "class B(Base):\n"
        "    'B.'\n"
        "    def add(self, f: int = 3, g=len('x')):\n"
        "        'Add f.'\n"
    )
    asked = [(q.question, q.answers[0]) for q in questions_of_module(source)]
    assert asked == [  # what isn't ASCII is left out; so is what has no docstring
        ("What does B inherit from?", "Base"),
        ("What is the default of f in add?", "3"),
        ("What is the default of g in add?", "len('x')"),
    ]
    plain = questions_of_module(source.replace("ï", "i").replace("Ä", "A"))
    assert [(q.question, q.answers[0]) for q in plain][:4] == [
        ("What does A inherit from?", "Base"),
        ("What is the default of b in naive?", "(1, 2)"),
        ("What is the default of c in naive?", "'x  y'"),
        ("What does naive return?", "the number of\n        things"),
    ]
    assert "nothing here" not in plain[1].context  # the first paragraph only
