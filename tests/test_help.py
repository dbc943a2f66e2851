"""The help of every program: read without starting anything, with commands that run."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiegym.runs.commands import python_command

ROOT = Path(__file__).parent.parent


def _programs():
    for path in sorted(
        p for f in ("agents", "baselines", "benchmarks") for p in ROOT.glob(f"{f}/*.py")
    ):
        text = path.read_text()
        if any(way in text for way in ("read_command_line(", "run_program", "run_benchmark(")):
            name = f"{path.parent.name}.{path.stem}".removesuffix(".__main__")
            if "__main__" in text or path.stem == "__main__":
                yield name
    yield from (f"tiegym.bench.{name}" for name in ("exact", "make", "power", "ranking"))


PROGRAMS = tuple(_programs())


def test_the_programs_are_found():
    found = set(PROGRAMS)
    assert {"agents.dqn", "baselines.compare", "benchmarks", "benchmarks.kills"} <= found
    assert {"benchmarks.core", "benchmarks.tiebench", "benchmarks.paper_scale"} <= found
    assert not {"agents.protocols", "benchmarks.program"} & found


@pytest.mark.parametrize("module", PROGRAMS)
def test_help_names_commands_that_run_where_they_are_printed(module, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["somewhere/program.py", "--help"])
    monkeypatch.setenv("COLUMNS", "1000")  # no line breaks in commands
    path = f"{module}.__main__" if (ROOT / module).is_dir() else module
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(path).main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: {python_command(module)} ")
    python = python_command(module).partition(" -m ")[0]
    assert said.count("python -m ") == said.count(f"{python} -m ")


@pytest.mark.parametrize("module", ["baselines.compare", "tiegym.cli"])
def test_a_reader_that_leaves_ends_help_without_a_word(module):
    program = [sys.executable, "-m", module, "--help"]
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as nobody:
        done = subprocess.run(program, cwd=ROOT, stdout=nobody, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
