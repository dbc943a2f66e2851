"""Cutting off a program that steps a policy, for tests."""

import dataclasses

import pytest

from tests.runs import facts
from tiegym.runs.program import run_policy


class Killed(BaseException):
    """What nothing catches, as nothing catches a lost machine."""


def check_that_it_goes_on(train, options, monkeypatch, module, steps):
    """Checks that a run that was cut off ends with all that one has that never was.

    Args:
        train: Of the program.
        options: Its options, which say how often it writes checkpoints.
        monkeypatch: Pytest's.
        module: That with `run_policy`, for it is there that the run is cut off.
        steps: Environment steps before.
    """
    folder = options.runs_dir
    whole = facts(train(dataclasses.replace(options, runs_dir=folder / "whole")))

    def killed(env, policy, seed, _):
        run_policy(env, policy, seed, steps)
        raise Killed

    options = dataclasses.replace(options, runs_dir=folder / "cut-off", name="run")
    with monkeypatch.context() as patched:
        patched.setattr(module, "run_policy", killed)
        with pytest.raises(Killed):
            train(options)
    options = dataclasses.replace(options, resume=folder / "cut-off" / "run")
    assert facts(train(options)) == whole
