import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tiegym.runs import commands
from tiegym.runs.commands import python_command


def test_the_printed_command_runs_where_it_is_printed():
    command = python_command("platform", "--terse")
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("executable", "on_the_path", "expected"),
    [
        ("{here}/.venv/bin/python", None, ".venv/bin/python"),
        ("{here}/.venv/bin/python", "{here}/.venv/bin/python", "python"),
        ("{here}/.venv/bin/python", "/usr/bin/python", ".venv/bin/python"),
        ("/opt/my python/bin/python", None, "'/opt/my python/bin/python'"),
    ],
)
def test_the_python_is_named_as_the_user_would(
    monkeypatch, tmp_path, executable, on_the_path, expected
):
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    found = on_the_path and on_the_path.format(here=here)
    monkeypatch.setattr(sys, "executable", executable.format(here=here))
    monkeypatch.setattr(commands.shutil, "which", lambda name: found)
    assert python_command("agents.dqn") == f"{expected} -m agents.dqn"


def test_arguments_are_quoted_for_a_shell():
    command = python_command("agents.dqn", "--resume", Path("runs/it's; rm -rf x"))
    assert shlex.split(command)[-1] == "runs/it's; rm -rf x"


def test_the_command_lines_of_a_description_are_those_of_the_python_that_runs(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/my python/bin/python")
    said = commands.runnable("What it does.\n\n    python -m agents.dqn\n")
    assert said == "What it does.\n\n    '/opt/my python/bin/python' -m agents.dqn\n"
