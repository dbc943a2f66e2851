"""Every option of every program reaches what it names, and has its place in a run's identity."""

import dataclasses
import importlib
from pathlib import Path

import pytest

from agents import (
    decision_s4,
    dqn,
    evolution,
    lookahead,
    maskable_ppo,
    pairwise,
    ppo,
    qlearning,
    recurrent_ppo,
    surrogate,
)
from agents.reward_differences import RewardDifferences
from baselines import fixed, gradient_split, random_tying, retrain, schedules
from tests.agents.known_answer import KnownAnswer
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs import program as programs
from tiegym.runs.folder import WHERE_AND_HOW, read_run
from tiegym.runs.options import RunOptions
from tiegym.runs.printable import printable
from tiegym.runs.same_run import check_options

ENV = TieConfig(**SMALL)
LEARNERS = (dqn, ppo, maskable_ppo, recurrent_ppo, pairwise, qlearning, decision_s4)
SEARCHES = (evolution, lookahead, surrogate)
OTHERS = (*SEARCHES, fixed, random_tying, retrain, schedules, gradient_split)


def group(model):
    return model.policy.optimizer.param_groups[0]


ON_THE_WAY = {
    "learning_rate": (3e-4, lambda m: (m.learning_rate, group(m)["lr"])),
    "gamma": (0.31, lambda m: m.gamma),
    "n_steps": (7, lambda m: (m.n_steps, m.batch_size)),
    "n_epochs": (3, lambda m: m.n_epochs),
    "gae_lambda": (0.37, lambda m: m.gae_lambda),
    "clip_range": (0.13, lambda m: m.clip_range(1.0)),
    "ent_coef": (0.07, lambda m: m.ent_coef),
    "lstm_size": (24, lambda m: m.policy.lstm_actor.hidden_size),
    "buffer_size": (321, lambda m: m.buffer_size),
    "learning_starts": (11, lambda m: m.learning_starts),
    "batch_size": (9, lambda m: m.batch_size),
    "gradient_steps": (5, lambda m: m.gradient_steps),
    "tau": (0.43, lambda m: m.tau),
    "exploration_fraction": (0.77, lambda m: m.exploration_fraction),
    "exploration_final_eps": (0.21, lambda m: m.exploration_final_eps),
    "weight_decay": (0.055, lambda m: group(m)["weight_decay"]),
    "epsilon_decay": (0.5, lambda m: m.epsilon_decay),
    "epsilon_floor": (0.25, lambda m: m.epsilon_floor),
    "bootstrap": ("same-layer", lambda m: m.bootstrap),
    "reward_clip": (2.5, lambda m: m.reward_clip),
    "reward_differences": (False, lambda m: wraps(m.get_env().envs[0], RewardDifferences)),
    "seed": (12, lambda m: m.seed),
    "behaviour": ("random", lambda m: m.behaviour),
    "offline_share": (0.25, lambda m: m.offline_share),
    "target_factor": (1.5, lambda m: m.target_factor),
    "layer_stats": (False, lambda m: m.policy.eyes.layer_stats),
    "width": (24, lambda m: m.policy.actor.join.out_features),
    "states": (5, lambda m: m.policy.actor.blocks[0].s4.frequency.shape[1]),
    "layers": (3, lambda m: len(m.policy.actor.blocks)),
}
"""Option of a learning agent: another value than the default, and what the agent has of it."""

ELSEWHERE = {
    *(field.name for field in dataclasses.fields(RunOptions)),
    *("pretrain_runs", "source"),  # tested in test_protocols and test_pairwise
    *("table", "envs"),  # in test_tabulated
    *("runs", "offline_updates"),  # in test_decision_s4_runs
} - {"seed"}


def wraps(env, kind):
    while hasattr(env, "env"):
        if isinstance(env, kind):
            return True
        env = env.env
    return False


def own_options(program):
    return [f.name for f in dataclasses.fields(program.Options) if f.name not in ELSEWHERE]


CASES = [(program, name) for program in LEARNERS for name in own_options(program)]


@pytest.mark.parametrize(
    ("program", "name"), CASES, ids=[f"{p.__name__.split('.')[1]}-{n}" for p, n in CASES]
)
def test_an_option_reaches_the_agent(program, name):
    assert name in ON_THE_WAY, f"say here where {name} arrives"
    value, arrived = ON_THE_WAY[name]
    env = KnownAnswer()
    options = program.Options(env=env.config)
    assert getattr(options, name) != value
    changed = dataclasses.replace(options, **{name: value})
    before = arrived(program.make_model(options, KnownAnswer()))
    after = arrived(program.make_model(changed, KnownAnswer()))
    assert after != before
    assert after == ((value, value) if isinstance(after, tuple) else value)


def test_the_options_of_the_search_decide_its_course():
    def births(**changes):
        seen = []
        options = evolution.Options(env=ENV, **{"evaluations": 6, "population": 4} | changes)
        rng = evolution.np.random.default_rng(0)
        cost = {}.setdefault
        evolution.evolve(
            lambda ties: cost(tuple(ties.tolist()), float(sum(ties))), 4, options, rng, seen.append
        )
        return [candidate.ties for candidate in seen]

    assert births() == births()
    for name, value in (("evaluations", 8), ("population", 3), ("sample", 1)):
        assert births(**{name: value}) != births()


@pytest.mark.parametrize(("name", "value"), [("horizon", 2), ("candidates", 2)])
def test_the_options_of_lookahead_reach_its_policy(tmp_path, monkeypatch, name, value):
    made = []
    init = lookahead.Lookahead.__init__

    def spied(self, *args, **kwargs):
        init(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(lookahead.Lookahead, "__init__", spied)
    lookahead.train(
        lookahead.Options(runs_dir=tmp_path, quiet=True, env=ENV, total_steps=1, **{name: value})
    )
    assert getattr(made[0], name) == value


@pytest.mark.parametrize("program", [*LEARNERS, *OTHERS], ids=lambda p: p.__name__)
def test_every_option_decides_what_a_run_does_or_belongs_to_no_identity(program):
    own = {f.name for f in dataclasses.fields(program.Options)}
    shared = {f.name for f in dataclasses.fields(RunOptions)}
    assert shared <= WHERE_AND_HOW | {"seed", "total_steps", "env"}, "classify the new option"
    # A program's own options decide: one that doesn't goes into WHERE_AND_HOW by a decision.
    assert not (own - shared) & WHERE_AND_HOW
    assert shared >= WHERE_AND_HOW


def test_what_changes_nothing_may_differ_when_a_run_goes_on(tmp_path):
    given = {"program": "p", "module": "m"}
    before = {f.name: repr(f.default) for f in dataclasses.fields(RunOptions)}
    for name in WHERE_AND_HOW:
        check_options(
            tmp_path, {**given, "options": before}, {**given, "options": before | {name: "other"}}
        )
    for name in before.keys() - WHERE_AND_HOW:
        with pytest.raises(ValueError, match=name):
            check_options(
                tmp_path,
                {**given, "options": before},
                {**given, "options": before | {name: "other"}},
            )


def test_a_run_goes_on_with_an_export_that_it_began_without(tmp_path):
    options = random_tying.Options(runs_dir=tmp_path, quiet=True, env=ENV)
    try:
        with programs.open_run(options, "random_tying") as env:
            env.reset(seed=0)
            env.step(1)
            raise ZeroDivisionError
    except ZeroDivisionError:
        (folder,) = tmp_path.iterdir()
    random_tying.main(["--resume", str(folder), "--export", "--sample-tokens=20"])
    assert (folder / "model.safetensors").is_file()
    assert len((folder / "sample.txt").read_text()) > 20


def test_a_run_is_the_same_whatever_is_shown_of_it(tmp_path, capsys):
    def run(name, **changes):
        folder = random_tying.train(
            random_tying.Options(runs_dir=tmp_path, name=name, env=ENV, **changes)
        )
        return [(row["action"], row["val_loss"]) for row in read_run(folder).steps]

    assert run("quiet", quiet=True) == run("shown", render=True, sample_tokens=8, export=True)
    shown = capsys.readouterr().out
    assert shown.count("perplexity") >= ENV.steps_per_episode
    sample = (tmp_path / "shown" / "sample.txt").read_text()
    assert "\n".join(map(printable, sample.split("\n"))) in shown


def test_the_agents_are_listed_with_a_line_each(capsys):
    from agents.__main__ import main

    main()
    listed, _, command = capsys.readouterr().out.partition("\n\n")
    names = {
        p.stem for p in Path(dqn.__file__).parent.glob("*.py") if "class Options(" in p.read_text()
    }
    assert {line.split()[0] for line in listed.splitlines()} == names
    assert all(len(line.split()) > 4 for line in listed.splitlines())
    assert "-m agents.NAME --help" in command


def test_help_names_a_command_that_runs_here(capsys):
    for arguments in (["--help"], ["--nope"]):
        with pytest.raises(SystemExit):
            dqn.main(arguments)
        out, err = capsys.readouterr()
        assert "-m agents.dqn" in " ".join((out + err).split())


@pytest.mark.parametrize(
    ("program", "name", "value"),
    [
        (program, name, value)
        for program in (
            *("dqn", "ppo", "maskable_ppo", "recurrent_ppo", "pairwise", "qlearning"),
            "decision_s4",
        )
        for name, value in (
            *(("learning_rate", v) for v in (0.0, -1.0, float("nan"), float("inf"))),
            *(("gamma", v) for v in (-0.1, 1.1)),
            *(("tau", 2.0), ("buffer_size", 0), ("batch_size", 0), ("gradient_steps", 0)),
            *(("exploration_fraction", 0.0), ("exploration_final_eps", 1.5)),
            *(("learning_starts", -1), ("n_steps", 1), ("n_epochs", 0), ("clip_range", 0.0)),
            *(("gae_lambda", -1.0), ("lstm_size", 0), ("weight_decay", -0.1)),
            *(("epsilon_decay", 1.1), ("epsilon_floor", -1.0), ("reward_clip", -1.0)),
        )
        if name in importlib.import_module(f"agents.{program}").Options.__dataclass_fields__
    ],
)
def test_a_number_that_no_agent_can_have_is_an_input_error(program, name, value):
    options = importlib.import_module(f"agents.{program}").Options
    with pytest.raises(ValueError, match=rf"^{name}={value} must be "):
        options(**{name: value})
