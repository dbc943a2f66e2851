"""Tuning with Ray Tune: what is proposed arrives, and who is behind is ended."""

import json

import pytest

from baselines.hyperparameters import Options, agent_options, main
from tests.tiegym.analysis.made_up import ENV
from tests.tiegym.small import SMALL

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "trials=0 must be at least 1"),
        (["--workers", "0"], "workers=0 must be at least 1"),
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
