"""What the words on a comparison's command line stand for."""

import dataclasses
import sys

import pytest

from baselines import random_tying
from baselines.compare import Options, _read, main
from baselines.policies import parse_policy, programs
from tests.tiegym.analysis.made_up import ENV
from tiegym.runs.begin import begin_run
from tiegym.runs.folder import WHERE_AND_HOW
from tiegym.runs.input_errors import InputError

OWN = """
from dataclasses import dataclass
from tiegym.runs.options import RunOptions
from baselines import random_tying

@dataclass(frozen=True)
class Options(RunOptions):
    strength: float = 1.0

def train(options):
    return random_tying.train(options)
"""


def test_a_policy_is_a_program_a_pattern_or_a_vector():
    assert parse_policy("random", ENV).module == "baselines.random_tying"
    assert parse_policy("cycle:2", ENV).options.pattern == "cycle:2"
    assert parse_policy("0,0,2,2", ENV).options.pattern == "0,0,2,2"
    assert parse_policy("qlearning --reward-clip 10", ENV).options.reward_clip == 10
    assert parse_policy("random-fixed", ENV).module == "baselines.random_fixed"
    assert parse_policy("random-raw", ENV).module == "baselines.random_raw"
    assert parse_policy("shallow:3", ENV).options.layers == 3
    own = parse_policy("random --env.tie-grad sum", ENV)
    assert own.options.env.tie_grad == "sum"
    assert own.options.env.n_layer == ENV.n_layer


@pytest.mark.parametrize(
    "wrong",
    ["nonsense", "", "compare", "workers", "protocols", "0,3,0,0", "../x", "/etc", "json", "this"],
)
def test_what_is_none_of_these_is_named(wrong):
    with pytest.raises(InputError, match="is no policy"):
        parse_policy(wrong, ENV)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("qlearnin", "qlearning"), ("randm", "random"), ("sandwic", "sandwich")],
)
def test_a_slip_gets_a_suggestion_programs_and_patterns(typed, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'") as caught:
        parse_policy(typed, ENV)
    for name in ("dqn", "maskable_ppo", "schedules", "shallow:M", "cycle:M", "sandwich"):
        assert name in str(caught.value)


def test_programs_are_what_has_options_and_train():
    found = programs()
    assert {"dqn", "evolution", "lookahead", "random", "random_fixed", "shallow"} <= set(found)
    assert not {"compare", "results", "demo", "protocols", "workers", "kept"} & set(found)


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_package").mkdir()
    yield tmp_path / "own_package"
    for name in [n for n in sys.modules if n.partition(".")[0].startswith("own_")]:
        del sys.modules[name]


def test_a_module_of_ones_own_is_a_policy(own_package):
    (own_package / "own_agent.py").write_text(OWN)
    (own_package.parent / "own_single.py").write_text(OWN)
    for name in ("own_package.own_agent", "own_single"):
        policy = parse_policy(f"{name} --strength 2", ENV)
        assert policy.module == name
        assert policy.options.strength == 2
        assert policy.train.__module__ == name


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import nothing_that_is_there", "needs the package nothing_that_is_there"),
        ("1 / 0", "can't be imported: ZeroDivisionError"),
        ("def broken(:", "can't be imported: SyntaxError"),
        ("class Options: pass\ndef train(options): pass", "is no policy"),
        (OWN.partition("def train")[0], "is no policy"),
    ],
)
def test_a_module_of_ones_own_that_is_no_program_says_why(own_package, source, message):
    (own_package / "own_agent.py").write_text(source)
    with pytest.raises(InputError, match=message):
        parse_policy("own_package.own_agent", ENV)
    for missing in ("own_package.nowhere", "own_nowhere.agent", "own_nowhere"):
        with pytest.raises(InputError, match="is no policy"):
            parse_policy(missing, ENV)


@pytest.mark.parametrize(
    "option",
    ["--seed 3", "--runs-dir x", "--name x", "--paper"],
)
def test_options_that_are_the_comparisons_are_refused(option):
    with pytest.raises(InputError, match="every run of a comparison gets it"):
        parse_policy(f"random {option}", ENV)


def test_a_run_to_resume_is_no_policy(tmp_path):
    with pytest.raises(InputError, match=r"resume"):
        parse_policy(f"random --resume {tmp_path}", ENV)


def test_a_quote_without_its_end_is_an_input_error():
    with pytest.raises(InputError, match="No closing quotation"):
        parse_policy("dqn --name 'x", ENV)


def test_shallow_needs_a_number_of_layers():
    for wrong in ("shallow:x", "shallow:", "shallow:-1"):
        with pytest.raises(InputError, match="is no policy"):
            parse_policy(wrong, ENV)


@pytest.mark.parametrize("name", sorted(WHERE_AND_HOW))
def test_what_changes_nothing_that_a_run_does_belongs_to_no_identity(tmp_path, name):
    policy = parse_policy("dqn", ENV)
    before = getattr(policy.options, name)
    numbers = {"checkpoint_every_steps": 7, "checkpoint_every_minutes": 7.0, "sample_tokens": 7}
    other = numbers.get(name, tmp_path / "x")
    if isinstance(before, bool):
        other = not before
    options = dataclasses.replace(policy.options, **{name: other})
    same = dataclasses.replace(policy, options=options)
    assert same.folder(tmp_path, 0) == policy.folder(tmp_path, 0)


@pytest.mark.parametrize(
    "policy",
    [
        "surrogate --learn-from nowhere",
        "dqn --table nowhere",
        "dqn --env.corpus /nowhere",
        "tied --env.tokenizer /nowhere.json",
        "tied --env.model hf:/nowhere",
    ],
)
def test_what_a_policy_names_and_is_not_there_is_an_input_error(policy):
    with pytest.raises(InputError, match="nowhere"):
        parse_policy(policy, ENV)


def test_policies_of_any_length_are_read_and_have_a_folder(tmp_path, capsys):
    env = dataclasses.replace(ENV, n_layer=200)
    vector = ",".join(map(str, range(200)))
    folder = parse_policy(vector, env).folder(tmp_path, 0)
    assert len(folder.name) < 200
    assert folder != parse_policy(vector.removesuffix("199") + "0", env).folder(tmp_path, 0)
    named = _read(Options(policies=(vector,), env=env, runs_dir=tmp_path))
    assert [policy.options.pattern for policy in named[1]] == [vector]
    run = begin_run(random_tying.Options(runs_dir=tmp_path, env=ENV), f"fixed-{vector}")
    run.close()
    assert run.folder.name.endswith("-seed0")
    with pytest.raises(SystemExit, match="2"):
        main(["x" * 300, "--seeds", "1", "--runs-dir", str(tmp_path)])
    assert "is no policy" in capsys.readouterr().err
