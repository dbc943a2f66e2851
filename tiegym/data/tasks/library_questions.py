"""Questions about the standard library of the running interpreter, answered by its own text.

The context is a function's or a class's first line and the first paragraph of its docstring, as
they stand in the file. Python's parser knows which default an argument has, and where it stands;
what a function returns, its docstring says in so many words. So every answer is exact and
stands in the context, once, and nothing is shipped. Left out are defaults of None, which would be
the right answer to every second question, and those of which the rules of SQuAD leave nothing, such
as (). Whole modules go to the splits.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from tiegym.data.sources import read_source, standard_library
from tiegym.data.splits import SPLITS
from tiegym.data.tasks.division import deal_files
from tiegym.data.tasks.library_code import PACKAGES
from tiegym.data.tasks.questions import Question, checked
from tiegym.data.tasks.squad_metrics import normalize

SHARE = 0.15
"""Of the source text, for the test split, and for the validation split."""

LONGEST = 600
"""Characters of a context; longer ones are left out."""

_RETURNS = re.compile(r"\breturns?\s+(?P<answer>[^.:;]{3,80})[.;]", re.IGNORECASE)

_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def questions_of_library() -> dict[str, list[Question]]:
    """Questions by split; no context is in two."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [(path.relative_to(root).parts, path) for path in standard_library()]
    modules = [path for parts, path in files if len(parts) == 1 or parts[0] in PACKAGES]
    seen: set[str] = set()
    made = {}
    for split, texts in deal_files(map(read_source, modules), SHARE).items():
        found = [question for text in texts for question in questions_of_module(text)]
        made[split] = [question for question in found if question.context not in seen]
        seen.update(question.context for question in found)
    return {split: made[split] for split in SPLITS}


def questions_of_module(source: str) -> list[Question]:
    r"""The questions about each function and class of a module that has a docstring.

    Examples:
        >>> text = "def f(a, b=3):\n    'Add them. Return their sum.'"
        >>> [(q.question, q.answers) for q in questions_of_module(text)]
        [('What is the default of b in f?', ('3',)), ('What does f return?', ('their sum',))]
    """
    lines = source.splitlines(keepends=True)
    made = []
    for node in _definitions(ast.parse(source).body):
        if _has_docstring(node):
            for question, context, answer, start in _ask(node, lines):
                is_fair = answer != "None" and normalize(answer) and context.count(answer) == 1
                if is_fair:
                    made.append(checked(question, context, [answer], start, node.name))
    return made


def _definitions(body: list[ast.stmt]) -> Iterator[_Definition]:
    """Functions and classes, and those within them."""
    for node in body:
        if isinstance(node, _Definition):
            yield node
        yield from _definitions(getattr(node, "body", []))


def _has_docstring(node: _Definition) -> bool:
    first = node.body[0]
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def _ask(node: _Definition, lines: list[str]) -> Iterator[tuple[str, str, str, int]]:
    """Each question with its context, its answer and where that begins."""
    text = _Text(lines, node.lineno, node.col_offset)
    docstring = node.body[0]
    begin = text.place(docstring.lineno, docstring.col_offset)
    end = text.place(docstring.end_lineno or 0, docstring.end_col_offset or 0)
    paragraph = re.search(r"\n\s*\n", text.upto(end)[begin:])
    context = text.upto(end if paragraph is None else begin + paragraph.start())
    if len(context) > LONGEST or not context.isascii():
        return
    if isinstance(node, ast.ClassDef):
        if len(node.bases) == 1:
            yield f"What does {node.name} inherit from?", context, *text.part(node.bases[0])
        return
    for argument, default in _defaults(node.args):
        question = f"What is the default of {argument} in {node.name}?"
        yield question, context, *text.part(default)
    if found := _RETURNS.search(context, begin):
        yield f"What does {node.name} return?", context, found["answer"], found.start("answer")


def _defaults(arguments: ast.arguments) -> Iterator[tuple[str, ast.expr]]:
    """The arguments that have a default, with it."""
    positional = [*arguments.posonlyargs, *arguments.args]
    with_default = positional[len(positional) - len(arguments.defaults) :]
    pairs = [
        *zip(with_default, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return ((argument.arg, default) for argument, default in pairs if default is not None)


class _Text:
    """A definition's text, with places by the parser's lines and columns (bytes of UTF-8)."""

    def __init__(self, lines: list[str], first: int, column: int) -> None:
        self._lines = lines
        self._first = first
        self._start = self._characters(first, column)

    def place(self, line: int, column: int) -> int:
        """Characters from the definition's start."""
        before = sum(len(text) for text in self._lines[self._first - 1 : line - 1])
        return before + self._characters(line, column) - self._start

    def upto(self, end: int) -> str:
        """The text's first characters."""
        joined, line = "", self._first - 1
        while len(joined) < self._start + end:
            joined += self._lines[line]
            line += 1
        return joined[self._start : self._start + end]

    def part(self, node: ast.expr) -> tuple[str, int]:
        """The text of an expression, and its place."""
        start = self.place(node.lineno, node.col_offset)
        end = self.place(node.end_lineno or 0, node.end_col_offset or 0)
        return self.upto(end)[start:], start

    def _characters(self, line: int, column: int) -> int:
        return len(self._lines[line - 1].encode()[:column].decode())
