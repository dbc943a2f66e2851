"""Tuning with Ray Tune: what is proposed arrives, and who is behind is ended."""

import dataclasses
import json
import shlex

import pytest
import tyro

from baselines import compare
from baselines.hyperparameters import (
    Options,
    _check_same,
    _identity,
    agent_options,
    compare_command,
    main,
)
from baselines.policies import parse_policy
from tests.tiegym.analysis.made_up import ENV, make_row
from tests.tiegym.small import SMALL
from tiegym.analysis.references import null_model
from tiegym.runs.input_errors import InputError
from tiegym.runs.json_files import write_json

ARGUMENTS = [f"--env.{key.replace('_', '-')}={value}" for key, value in SMALL.items()]


def test_settings_arrive_at_the_agent_and_at_the_environment():
    settings = {"learning_rate": 0.5, "env.learning_rate": 0.25, "env.iters_per_step": 4}
    made = agent_options(settings, Options(env=ENV))
    assert (made.learning_rate, made.env.learning_rate, made.env.iters_per_step) == (0.5, 0.25, 4)
    assert made.env.corpus == ENV.corpus


@pytest.mark.slow
def test_the_best_of_the_trials_is_named_with_the_command_that_judges_it(ray, tmp_path, capsys):
    arguments = ["--trials", "3", "--workers", "1", "--out", str(tmp_path / "tuned")]
    main([*arguments, *ARGUMENTS, "--env.max-iters=16"])
    said = capsys.readouterr().out.splitlines()[-3:]
    last = [
        json.loads(path.read_text().splitlines()[-1])
        for path in (tmp_path / "tuned").glob("*/result.json")
    ]
    assert len(last) == 3
    iterations = [result["iteration"] for result in last]
    assert max(iterations) == 16
    assert min(iterations) < 16  # behind after 2, 4 or 8
    best = min(last, key=lambda result: result["val_loss"])
    assert said[0] == f"lowest validation loss: {best['val_loss']:.4f} nats"
    rate = f"{best['config']['env.learning_rate']:.3g}"
    assert "baselines.compare 'dqn --learning-rate" in said[1]
    assert f"--env.learning-rate {rate}" in said[1]


def test_the_command_that_judges_it_has_the_environment_that_was_searched():
    env = dataclasses.replace(ENV, initial_ties="cycle:2", compile=True, quantize="int4")
    command = compare_command({"env.learning_rate": 0.25}, env)
    words = shlex.split(command.partition(" -m baselines.compare ")[2])
    assert words[:3] == ["dqn --env.learning-rate 0.25", "dqn", "random"]
    read = tyro.cli(compare.Options, args=words)
    assert read.env == env


def test_the_tuned_agent_is_judged_by_random_actions_with_its_own_transformer():
    found = {"learning_rate": 0.5, "env.learning_rate": 0.25, "env.iters_per_step": 2}
    words = shlex.split(compare_command(found, ENV).partition(" -m baselines.compare ")[2])
    of_env = "--env.learning-rate 0.25 --env.iters-per-step 2"
    tuned, null = f"dqn --learning-rate 0.5 {of_env}", f"random-raw {of_env}"
    policies = tyro.cli(compare.Options, args=words).policies
    assert policies == (tuned, "dqn", "random", "random-raw", null)
    made = {p: parse_policy(p, ENV).options.env for p in policies}
    names = ("dqn", "dqn", "random_tying", "random_raw", "random_raw")
    rows = [
        make_row([1.0], p, name, **dataclasses.asdict(env))
        for name, (p, env) in zip(names, made.items(), strict=True)
    ]
    assert [null_model(rows, row).policy for row in rows[:2]] == [null, "random-raw"]


def test_a_search_goes_on_with_the_options_that_it_began_with(tmp_path, capsys):
    begun = Options(out=tmp_path, env=ENV)
    _check_same(begun)  # an older one
    assert "doesn't say with which options it began" in capsys.readouterr().err
    write_json(tmp_path / "options.json", _identity(begun))
    _check_same(dataclasses.replace(begun, workers=2))
    other = dataclasses.replace(begun, env=dataclasses.replace(ENV, batch_size=3), trials=7)
    message = rf"env.batch_size \({ENV.batch_size} then, 3 now\), trials \(40 then, 7 now\)"
    with pytest.raises(InputError, match=message):
        _check_same(other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "trials=0 must be at least 1"),
        (["--workers", "0"], "workers=0 must be at least 1"),
        (["--seed", "4"], "seed=4 must be at least 1000001"),
        (["--engine", "processes"], "engine='processes' has no Tune"),
        (["--gpus-per-run", "1.5"], "gpus_per_run=1.5 must be from 0 to 1"),
        (["--engine", "ray:127.0.0.1:1"], "no Ray cluster can be reached at 127.0.0.1:1"),
    ],
)
def test_what_cannot_be_tuned_ends_with_status_2(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--out", str(tmp_path / "tuned"), *ARGUMENTS])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
