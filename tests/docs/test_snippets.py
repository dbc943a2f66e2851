"""The documentation's code runs, and its commands are ones that the programs understand."""

import doctest
import functools
import importlib.util
import inspect
import re
import shlex
from types import SimpleNamespace

import pytest
import tyro

from baselines import retrain
from baselines.policies import parse_policy
from tests.docs.pages import PAGES, ROOT, snippets
from tiegym import cli
from tiegym.bench import recorded
from tiegym.bench.table import load_table
from tiegym.runs import options as run_options

SELF_CONTAINED = ("README.md", "CONTRIBUTING.md")
"""Pages whose blocks are whole programs each; on the others a block goes on from those above."""

ELSEWHERE = ("cd", "git", "pip", ".venv/bin/tensorboard")
"""Commands of other projects: what they understand is theirs to test."""

DOCSTRINGS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("tiegym", "agents", "baselines", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]


def python_programs():
    """The blocks to be run together, as parameters of a test."""
    for page in PAGES:
        blocks = [s for s in snippets(page) if s.language == "python"]
        if page.name in SELF_CONTAINED:
            yield from (pytest.param([block], id=str(block)) for block in blocks)
        elif blocks:
            yield pytest.param(blocks, id=str(page.relative_to(ROOT)))


def commands():
    """Every line of a shell block, and every command that a program's docstring shows."""
    for page in PAGES:
        for snippet in snippets(page):
            if snippet.language in ("sh", "console", "bash"):
                text = snippet.code.replace("\\\n", " ")
                for line in text.splitlines():
                    if shlex.split(line, comments=True):
                        yield pytest.param(line, id=f"{snippet}: {line.strip()}")
    for folder in ("tiegym", "agents", "baselines"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for line in re.findall(r"^ *python -m .*$", path.read_text(), re.MULTILINE):
                yield pytest.param(line.strip(), id=f"{path.relative_to(ROOT)}: {line.strip()}")


@pytest.mark.parametrize("blocks", list(python_programs()))
def test_python_blocks_of_a_page_run(blocks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what a block writes stays out of the checkout
    namespace = {"__name__": "__main__"}
    for block in blocks:
        # Blank lines in front, so that a traceback shows the line of the page.
        source = "\n" * (block.line - 1) + block.code
        exec(compile(source, str(block.page), "exec"), namespace)


@pytest.fixture
def tables_are_there(tree_file):
    """Tables that pages name are on the reader's machine: each is a small one here."""
    table = load_table(str(tree_file))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorded, "load_table", lambda name: table)
        yield


@pytest.mark.usefixtures("tables_are_there")
@pytest.mark.parametrize("line", list(commands()))
def test_commands_of_a_page_are_understood(line, monkeypatch):
    check_command(shlex.split(line, comments=True), monkeypatch)


@pytest.mark.parametrize(
    "wrong",
    [
        "python -m agents.dqn --no-such-option 1",
        "python -m agents.no_such_agent",
        "python -m baselines.compare no_such_policy",
        "make no-such-target",
        "tiegym export runs/x --to no-such-form",
        "no-such-program",
    ],
)
def test_the_check_finds_commands_that_would_fail(wrong, monkeypatch):
    with pytest.raises(
        (SystemExit, ModuleNotFoundError, AttributeError, ValueError, AssertionError)
    ):
        check_command(shlex.split(wrong), monkeypatch)


@pytest.mark.parametrize("module", DOCSTRINGS)
def test_examples_in_docstrings_give_what_they_show(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failures, examples = doctest.testmod(importlib.import_module(module))
    assert examples > 0
    assert failures == 0


def check_command(words, monkeypatch):
    """Fails unless a command's program exists and takes its arguments; runs nothing."""
    program, *args = words
    if program == "make":
        rules = (ROOT / "Makefile").read_text()
        targets = [word for word in args if "=" not in word]
        assert all(re.search(rf"^{re.escape(t)}:", rules, re.MULTILINE) for t in targets), targets
    elif program in ("python", ".venv/bin/python"):
        assert args[0] == "-m", f"{words}: the programs are run as modules, python -m agents.ppo"
        check_program(args[1], args[2:], monkeypatch)
    elif program in ("tiegym", ".venv/bin/tiegym"):
        for name, command in cli.COMMANDS.items():
            idle = functools.wraps(command)(lambda *args, **kwargs: None)
            monkeypatch.setitem(cli.COMMANDS, name, idle)
        cli.main(args)
    else:
        assert program in ELSEWHERE, f"{program!r} is no program of ours: add it to ELSEWHERE?"


class Parsed(Exception):
    """A program has read its options, and is stopped before it does anything with them."""


def check_program(name, args, monkeypatch):
    """Runs a program's own main as far as its options are read."""
    if importlib.util.find_spec(name).submodule_search_locations:  # a package: its __main__
        assert not args, f"{name} has no options"
        return
    module = importlib.import_module(name)
    if not hasattr(module, "Options") or not inspect.signature(module.main).parameters:
        assert not args, f"{name} has no options"
        return
    understood, parse = [], tyro.cli

    def parse_only(*arguments, **named):
        understood.append(parse(*arguments, **named))
        raise Parsed

    monkeypatch.setattr(tyro, "cli", parse_only)
    # Some read a run before their options. Those that pages name are on the reader's machine.
    monkeypatch.setattr(run_options, "recorded_options", lambda options, folder: options())
    run = SimpleNamespace(config={"env": {}})
    monkeypatch.setattr(retrain, "read_source", lambda folder: run)
    with pytest.raises(Parsed):
        module.main(args)
    monkeypatch.undo()
    if name == "baselines.compare":
        for policy in understood[0].policies:
            if not policy.startswith("runs/"):
                parse_policy(policy, understood[0].env)
