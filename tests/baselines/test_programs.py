"""Fixed patterns and random tying as programs, and what a program says to wrong input."""

import dataclasses
import importlib
import math
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

from baselines import fixed, random_tying
from baselines.policies import PACKAGES, is_program, programs
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


def test_a_fixed_pattern_is_in_place_from_the_first_iteration(tmp_path):
    options = fixed.Options(pattern="cycle:2", runs_dir=tmp_path, quiet=True, env=ENV)
    run = read_run(fixed.train(options))
    assert all(row["ties"] == [0, 1, 0, 1] for row in run.steps)
    assert run.config["env"]["initial_ties"] == "cycle:2"
    assert run.summary["final"]["n_independent"] == 2
    assert run.summary["finished"]


def test_a_fixed_run_does_not_depend_on_the_action_protocol(tmp_path):
    losses = []
    for action in ("layerwise", "pair", "joint"):
        env = TieConfig(**SMALL | {"action": action})
        options = fixed.Options(
            pattern="sequence:2", runs_dir=tmp_path, name=action, quiet=True, env=env
        )
        losses.append([row["val_loss"] for row in read_run(fixed.train(options)).steps])
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_random_tying_runs_and_its_seed_decides_it(tmp_path, action):
    env = TieConfig(**SMALL | {"action": action})
    runs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        options = random_tying.Options(seed=seed, runs_dir=tmp_path, name=name, quiet=True, env=env)
        rows = read_run(random_tying.train(options)).steps
        runs.append([(row["ties"], row["val_loss"]) for row in rows])
    assert runs[0] == runs[1] != runs[2]


def test_a_program_runs_from_the_command_line_and_names_its_folder(tmp_path):
    small = [f"--env.{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    command = [sys.executable, "-m", "baselines.fixed", "--pattern", "tied", "--seed", "3"]
    out = subprocess.run(
        [*command, "--runs-dir", str(tmp_path), *small], capture_output=True, text=True, check=True
    )
    folder = tmp_path / "fixed-tied-seed3"
    assert out.stdout.strip().splitlines()[-1] == f"run folder: {folder}"
    run = read_run(folder)
    assert run.config["options"]["seed"] == 3
    assert {p.name for p in folder.iterdir()} >= {"config.json", "steps.jsonl", "summary.json"}
    assert list(folder.glob("events.out.tfevents*"))


def test_help_documents_every_option():
    out = subprocess.run(
        [sys.executable, "-m", "baselines.fixed", "--help"], capture_output=True, text=True
    ).stdout
    for option in (
        "--pattern",
        "--seed",
        "--total-steps",
        "--env.tie-grad",
        "--paper",
        "--env.n-layer",
    ):
        assert option in out
    assert "middle-cycle:B" in out


def test_the_papers_values_can_be_asked_for_and_overridden():
    from tiegym.runs.options import parse_options

    options = parse_options(random_tying.Options, ["--paper", "--env.n-layer", "12"])
    assert (options.env.n_layer, options.env.n_embd, options.env.reward) == (12, 1600, "neg_ppl")


@pytest.mark.parametrize("pattern", ["spiral", "0,5,0,0", "cycle:9"])
def test_an_unknown_pattern_leaves_no_folder(tmp_path, pattern):
    with pytest.raises(ValueError, match=r"unknown tying pattern|layer 1 points at|from 1 to 4"):
        fixed.train(fixed.Options(pattern=pattern, runs_dir=tmp_path, quiet=True, env=ENV))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("agents.dqn", ["--env.corpus=synthetic:300"], "bring a larger corpus"),
        ("agents.dqn", ["--seed=-1"], "seed=-1 must be from 0"),
        ("agents.ppo", ["--total-steps=0"], "total_steps=0 must be at least 1"),
        ("agents.ppo", ["--env.device=cuda:99"], "this machine has"),
        ("baselines.fixed", ["--pattern=cycle:0"], "tying pattern 'cycle:0' needs"),
        ("baselines.retrain", [], "give the folder of a finished run"),
        ("baselines.retrain", ["--run=nothing"], "nothing is no run folder"),
        ("baselines.compare", [], "no policies given"),
        ("baselines.compare", ["nonsense"], "'nonsense' is no policy"),
    ],
)
def test_wrong_input_ends_a_program_with_one_message_and_status_2(
    module, arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(module).main(arguments)
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.replace("\u2502", " ").split())
    assert message in said
    assert not list(tmp_path.iterdir())


def _numbers(options):
    """The fields that are numbers with decimals, or None, of a program's options."""
    hints = get_type_hints(options)
    kinds = {f.name: hints[f.name] for f in dataclasses.fields(options)}
    return [name for name, kind in kinds.items() if float in (kind, *get_args(kind))]


@pytest.mark.parametrize("name", sorted({*programs()} - {"random"}))
def test_no_number_of_a_program_is_infinite_or_none_at_all(name):
    (options,) = (sys.modules[f"{p}.{name}"].Options for p in PACKAGES if is_program(f"{p}.{name}"))
    for field in _numbers(options):
        for value in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match=f"{field}={value}"):
                options(**{field: value})
