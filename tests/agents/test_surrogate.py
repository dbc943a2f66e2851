"""The surrogate: what it chooses, the run that it trains, what it refuses."""

import dataclasses
import json

import numpy as np
import pytest

from agents import sharing_model, surrogate
from agents.sharing_model import n_groups, recorded_sharings
from agents.surrogate import Options, check_kinds, main, train
from baselines import fixed
from tests.agents.made_tables import made_patterns, planted
from tests.tiegym.playing import MIXED
from tests.tiegym.small import SMALL
from tiegym.bench.tree import sharings
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)
SUM = "patterns-6-wikitext-2-sum"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Four layers, four seeds to learn from, losses planted."""
    return made_patterns(tmp_path_factory.mktemp("tables") / "patterns-4-made-sum.npz", planted)


def options(table, folder=None, **changes):
    where = {} if folder is None else {"runs_dir": folder}
    return Options(
        **{"learn_from": (table,), "quiet": True, "env": ENV, "size": 2} | where | changes
    )


def chosen(options):
    tables = [recorded_sharings(name, options.seed) for name in options.learn_from]
    return surrogate.learn_and_choose(tables, options)["chosen"]


def test_the_planted_best_is_found_at_other_depths(table):
    for n_layer in (5, 6, 7):
        every = sharings(n_layer)
        for size in (2, 3, 4):
            env = dataclasses.replace(ENV, n_layer=n_layer)
            found = chosen(options(table, env=env, size=size))
            best = planted(every[n_groups(every) == size])
            assert planted(np.array([found["ties"]]))[0] == pytest.approx(best.min())
            assert found["n_independent"] == size
            assert found["predicted"] == pytest.approx(best.min() - best.mean(), abs=0.03)
    deep = dataclasses.replace(ENV, n_layer=12)
    assert chosen(options(table, env=deep))["ties"] == [0] + [1] * 11


def test_without_a_size_the_price_of_layers_decides(tmp_path):
    def better_when_large(groups):
        return planted(groups) + 2 / n_groups(groups)

    table = made_patterns(tmp_path / "t.npz", better_when_large)
    sizes = []
    for price in (0.0, 0.5, 9.0):
        reward = {"reward": "ppl_params", "param_cost": price} if price else {}
        env = dataclasses.replace(ENV, n_layer=6, **reward)
        every = sharings(6)
        best = (better_when_large(every) + price * n_groups(every) / 6).argmin()
        sizes.append(chosen(options(table, env=env, size=None))["n_independent"])
        assert sizes[-1] == n_groups(every)[best]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


def test_it_trains_under_what_it_chose_and_counts_what_it_learnt_from(table, tmp_path):
    run = read_run(train(options(table, tmp_path, seed=2)))
    found = run.config["chosen"]
    assert found["ties"] == run.config["env"]["initial_ties"] == [0, 1, 1, 1]
    assert [row["ties"] for row in run.steps] == [[0, 1, 1, 1]] * ENV.steps_per_episode
    assert run.config["protocol"] == "pretrained"
    assert run.config["tables_sha256"] == [recorded_sharings(table).sha256]
    weights = run.config["sharing_model"]["weights"]
    assert list(weights) == ["size", "first", "neighbours", "pairs"]
    (ranks,) = run.config["rank_correlations"]
    assert (ranks["table"], ranks["predicted"][1]) == (table, None)
    assert ranks["predicted"][0] > 0.8
    assert run.summary["extra_iterations"] == 3 * 15 * 10  # of four seeds, one is its own

    again = fixed.Options(seed=2, runs_dir=tmp_path, quiet=True, env=ENV, pattern="0,1,1,1")
    theirs = read_run(fixed.train(again)).summary["final"]
    for key in ("val_loss", "test_perplexity", "model_state_bytes"):
        assert run.summary["final"][key] == theirs[key]


def test_it_never_learns_from_the_seed_of_its_own_run(table, tmp_path):
    for seed, others in ((1, [0, 2, 3]), (7, [0, 1, 2, 3])):
        run = read_run(train(options(table, tmp_path, seed=seed, total_steps=1)))
        assert run.config["tables_seeds"] == [others]


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_any_action_leads_there_and_layers_may_be_frozen(table, tmp_path, action):
    env = dataclasses.replace(ENV, action=action, choices="tie+freeze")
    run = read_run(train(options(table, tmp_path, env=env)))
    assert {tuple(row["ties"]) for row in run.steps} == {(0, 1, 1, 1)}
    assert not any(sum(row["frozen"]) for row in run.steps)


class Killed(BaseException):
    """As abrupt as KeyboardInterrupt."""


def dies(*args):
    raise Killed


def die_before_training(table, tmp_path, monkeypatch):
    """Leaves a run that has chosen, and nothing more."""
    with monkeypatch.context() as patch:
        patch.setattr(surrogate, "run_policy", dies)
        with pytest.raises(Killed):
            train(options(table, tmp_path, name="run"))


def test_a_run_that_dies_goes_on_with_the_same_choice(table, tmp_path, monkeypatch):
    die_before_training(table, tmp_path, monkeypatch)
    # The choice is recorded: it isn't made again.
    monkeypatch.setattr(surrogate, "learn_and_choose", dies)
    main(["--resume", str(tmp_path / "run")])
    ours = read_run(tmp_path / "run")
    monkeypatch.undo()
    whole = read_run(train(options(table, tmp_path, name="whole")))
    assert ours.config["chosen"] == whole.config["chosen"]
    assert ours.summary["final"]["val_loss"] == whole.summary["final"]["val_loss"]


@pytest.mark.parametrize(
    "change",
    [
        lambda found: 1,
        lambda found: found | {"program": "other"},
        lambda found: found | {"chosen": found["chosen"] | {"ties": [0, 2, 0, 0, 0, 0]}},
        lambda found: found | {"chosen": found["chosen"] | {"ties": [0, 0]}},
        lambda found: {"chosen": found["chosen"]},
    ],
)
def test_a_choice_that_it_cannot_have_made_is_damaged(table, tmp_path, monkeypatch, change):
    die_before_training(table, tmp_path, monkeypatch)
    path = tmp_path / "run" / "calls.jsonl"
    entry = json.loads(path.read_text())
    path.write_text(json.dumps(entry | {"answer": change(entry["answer"])}) + "\n")
    with pytest.raises(InputError, match=r"calls\.jsonl, line 1, is damaged"):
        train(options(table, tmp_path, resume=tmp_path / "run"))


def test_it_says_what_it_learnt_and_chose_unless_quiet(table, tmp_path, capsys):
    train(options(table, tmp_path, total_steps=1))
    assert capsys.readouterr().out == ""
    train(options(table, tmp_path, total_steps=1, quiet=False, features="first+size"))
    said = capsys.readouterr().out
    assert f"{table}: rank correlation with seeds unseen" in said
    assert "(within sizes none) of predictions for sharings unseen" in said
    assert "nats: size " in said
    assert "chosen: 2 independent layers, 0,1,1,1; predicted -0." in said


@pytest.mark.parametrize(
    ("kind", "weights", "ties"),
    [
        ("sum", (0.17, 0.39, -0.11, -0.04), [0, *[1] * 9, 10, 11]),
        ("owner", (0.12, 0.10, -0.03, 0.04), [0, *[1] * 4, *[5] * 4, *[9] * 3]),
        ("fast-sum", (0.35, 0.57, 0.00, -0.56), [0, *[1] * 6, 7, 1, 1, 10, 1]),
    ],
)
def test_what_docs_agents_says_that_it_learns_and_chooses(kind, weights, ties):
    env = dataclasses.replace(ENV, n_layer=12)
    given = options(f"patterns-6-wikitext-2-{kind}", env=env, size=4)
    model = sharing_model.learn([recorded_sharings(*given.learn_from)], given.features.split("+"))
    assert [*model.weights.values()] == pytest.approx(weights, abs=0.0051)
    assert list(surrogate.choose(model, given).ties) == ties
    two = surrogate.choose(model, dataclasses.replace(given, size=2))
    assert list(two.ties) == [0, *[1] * 11]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"size": 0}, "size=0 must be from 1 to env.n_layer=4"),
        ({"size": 5}, "size=5 must be from 1 to env.n_layer=4"),
        ({"features": "first+width"}, "features='first.width' has 'width', which is unknown"),
        ({"learn_from": ()}, r"learn_from=\(\) must name a table or more"),
        ({"learn_from": (SUM, SUM)}, "must name a table or more, each once"),
        ({"learn_from": ("no-such",)}, "table='no-such' is unknown: choose one of patterns-6"),
        ({"learn_from": ("no-such.npz",)}, "there is no such file"),
        (
            {"env": dataclasses.replace(ENV, n_layer=1), "size": None},
            "env.n_layer=1 must be at least 2",
        ),
        (
            {"env": dataclasses.replace(ENV, tie_parts="attention+mlp")},
            "env.tie_parts='attention.mlp': what is recorded are sharings of whole blocks",
        ),
    ],
)
def test_what_it_cannot_do_is_an_error_at_construction(changes, problem):
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        options(SUM, **changes)


def test_a_table_with_too_few_other_seeds_leaves_no_run_folder(tmp_path, capsys):
    table = made_patterns(tmp_path / "t.npz", planted, train=(0, 1))
    with pytest.raises(SystemExit, match="2"):
        main(["--learn-from", table, "--seed=1", f"--runs-dir={tmp_path / 'runs'}", "--quiet"])
    assert "1 recorded seed(s) other than seed=1" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_model_with_layers_of_two_kinds_is_refused_before_there_is_a_folder(table, tmp_path):
    pytest.importorskip("transformers")
    mixed = {"model": "gemma3_text", "model_config": json.dumps(MIXED)}
    env = dataclasses.replace(ENV, **mixed)
    with pytest.raises(InputError, match=r"layers of several kinds, .*full_attention.*evolution"):
        train(options(table, tmp_path / "runs", env=env))
    assert not (tmp_path / "runs").exists()
    alike = json.dumps(MIXED | {"layer_types": ["full_attention"] * 4})
    text = tmp_path / "text.txt"
    text.write_text("one two three four " * 400)
    one_kind = dataclasses.replace(env, model_config=alike, corpus=str(text))
    check_kinds(one_kind)
    text.unlink()
    with pytest.raises(InputError, match=r"text\.txt"):
        check_kinds(one_kind)


def test_the_order_of_features_is_no_other_run(table):
    assert options(table, features="pairs+size").features == "size+pairs"
    assert Options.__dataclass_fields__["features"].default == "+".join(sharing_model.FEATURES)
