"""Lookahead: what it tries, what it takes, what it spends, and what it leaves alone."""

import dataclasses
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

import tiegym  # noqa: F401 registers the environments
from agents.lookahead import Lookahead, Options, main, train
from tests.tiegym.small import SMALL
from tiegym import ties as tie_vectors
from tiegym.actions import Actions
from tiegym.bench.exact import known
from tiegym.bench.recorded import real_config
from tiegym.bench.table import load_table
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run
from tiegym.training.one_thread import one_thread
from tiegym.training.trainer import Trainer

ACTIONS = ("layerwise", "pair", "joint")


def make(**changes):
    return gymnasium.make("TieEnv-v0", **SMALL | changes)


def seen(ties, layer=0, iteration=0):
    """An observation, as far as a choice of candidates needs it."""
    budget = np.array([iteration / SMALL["max_iters"]], dtype=np.float32)
    return {"ties": np.array(ties), "layer": np.int64(layer), "budget": budget}


class KeepsTrials(Lookahead):
    """Remembers the actions it tried, and their rewards."""

    def trial(self, action, after, observation):
        reward = super().trial(action, after, observation)
        self.tried.append((action, reward))
        return reward


@pytest.mark.slow
@pytest.mark.parametrize("action", ACTIONS)
def test_no_candidate_would_have_done_better_and_the_run_is_left_alone(action):
    env = make(action=action, initial_ties="0,0,1,3", dropout=0.1)
    policy = KeepsTrials(env)
    observation, _ = env.reset(seed=3)
    played, run = [], []
    terminated = False
    while not terminated:
        policy.tried = []
        chosen, _ = policy.predict(observation)
        tried = [a for a, _ in policy.tried]
        everything = tried if action == "joint" else range(env.action_space.n)
        best = max(env.unwrapped.fork().step(a)[1] for a in everything)
        observation, reward, terminated, _, info = env.step(chosen)
        assert reward == best == max(r for _, r in policy.tried)
        played.append(chosen)
        run.append((reward, info["train_loss"], info["ties"].tolist()))
    assert len(run) == SMALL["max_iters"] / SMALL["iters_per_step"]
    test_perplexity = info["test_perplexity"]

    plain = make(action=action, initial_ties="0,0,1,3", dropout=0.1)
    plain.reset(seed=3)
    for chosen, expected in zip(played, run, strict=True):
        _, reward, _, _, info = plain.step(chosen)
        assert (reward, info["train_loss"], info["ties"].tolist()) == expected
    assert info["test_perplexity"] == test_perplexity


def test_actions_that_share_weights_alike_are_tried_once():
    policy = Lookahead(make())

    def targets(ties, layer):
        return [int(a) for a, _ in policy.choices(seen(ties, layer))]

    assert targets([0, 1, 2, 0], 3) == [0, 1, 2, 3]
    assert targets([0, 0, 1, 0], 3) == [0, 3]  # 1 and 2 lead to 0 too
    assert targets([0, 0, 1, 2], 3) == [2, 3]  # the present pointer, not another one
    assert targets([0, 1, 1, 3], 3) == [3, 0, 1]
    assert targets([0, 0, 1, 1], 1) == [0, 1]


def test_pairs_that_share_weights_alike_are_tried_once():
    policy = Lookahead(make(action="pair"))
    outcomes = [after.tolist() for _, after in policy.choices(seen([0, 0, 0, 0]))]
    assert outcomes == [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 3]]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_smaller_choice_has_the_present_state_and_others_drawn_by_seed(action):
    def outcomes(seed):
        policy = Lookahead(make(action=action), candidates=3, seed=seed)
        return [
            [after.tolist() for _, after in policy.choices(seen([0, 1, 2, 3], 3))] for _ in range(8)
        ]

    drawn = outcomes(0)
    assert all(some[0] == [0, 1, 2, 3] for some in drawn)
    sizes = {len({tuple(ties) for ties in some}) for some in drawn}
    assert sizes == {3} if action != "joint" else sizes <= {2, 3}
    assert len({str(sorted(some)) for some in drawn}) > 1
    assert drawn == outcomes(0) != outcomes(1)


def test_joint_draws_are_what_they_mean_where_layers_are_of_two_kinds():
    env = make(action="joint")
    env.unwrapped.actions = dataclasses.replace(env.unwrapped.actions, kinds=("a", "b", "a", "b"))
    policy = Lookahead(env, candidates=16)
    outcomes = [after.tolist() for _, after in policy.choices(seen([0, 1, 2, 3]))]
    assert sorted(outcomes) == [[0, 1, 0, 1], [0, 1, 0, 3], [0, 1, 2, 1], [0, 1, 2, 3]]


def test_of_equal_rewards_the_fewest_layers_win_and_then_the_present_state():
    policy = Lookahead(make())
    policy.trial = lambda *_: -3.0

    def taken(ties, layer):
        return int(policy.predict(seen(ties, layer))[0])

    assert taken([0, 1, 2, 3], 3) == 0
    assert taken([0, 1, 2, 1], 3) == 1
    assert taken([0, 0, 1, 2], 3) == 2
    policy.trial = lambda action, *_: -3.0 + 1e-9 * (action == 3)
    assert taken([0, 1, 2, 1], 3) == 3


def test_a_trial_is_the_mean_reward_while_the_ties_stay_as_the_action_left_them():
    env = make()
    observation, _ = env.reset(seed=0)
    env.step(1)
    observation, *_ = env.step(0)
    fork = env.unwrapped.fork()
    expected = [fork.step(action)[1] for action in (2, 1, 0)]  # layers 3, 1, 2: 0,1,0,2 stays
    assert fork.ties.tolist() == [0, 1, 0, 2]
    policy = Lookahead(env, horizon=3)
    after = np.array([0, 1, 0, 2])
    assert policy.trial(np.int64(2), after, observation) == pytest.approx(np.mean(expected))
    assert policy.extra_iterations == 3 * SMALL["iters_per_step"]


def test_a_trial_does_not_win_by_ending_early():
    def step(action):
        diverged = action == 1
        info = {"iteration": 4}
        return seen([0, 0], 1), -20.0 if diverged else -9.0, diverged, False, info

    space = gymnasium.spaces.Discrete(2)
    config = TieConfig(n_layer=2, max_iters=12)
    env = SimpleNamespace(config=config, actions=Actions.of(config))
    env.unwrapped = env
    env.fork = lambda: SimpleNamespace(step=step, action_space=space)
    assert Lookahead(env, horizon=5).predict(seen([0, 0], 1))[0] == 0


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_run_states_the_extra_iterations_that_its_copies_ran(tmp_path, horizon):
    env = TieConfig(**SMALL | {"max_iters": 11})  # the last step is cut short
    options = Options(runs_dir=tmp_path, quiet=True, env=env, horizon=horizon, total_steps=12)
    run = read_run(train(options))
    assert len(run.steps) == 12  # two episodes
    expected, ties, iteration = 0, np.zeros(4, dtype=np.int64), 0
    for row in run.steps:
        layer = (row["step"] - 1) % 3 + 1
        after = [tie_vectors.set_tie(ties, layer, target) for target in range(layer + 1)]
        trials = len({tuple(tie_vectors.roots(vector)) for vector in after})
        expected += trials * min(horizon * env.iters_per_step, env.max_iters - iteration)
        ties, iteration = np.array(row["ties"]), row["iteration"]
        if row["terminated"]:
            ties, iteration = np.zeros(4, dtype=np.int64), 0
    assert run.summary["extra_iterations"] == expected > 0
    assert run.config["protocol"] == "online"


def test_copies_never_read_the_test_split(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(Trainer, "test_loss", lambda *_: calls.append(1) or 1.0)
    train(Options(runs_dir=tmp_path, quiet=True, env=TieConfig(**SMALL)))
    assert len(calls) == 1


def test_a_seed_repeats_the_run(tmp_path):
    options = Options(seed=5, candidates=2, runs_dir=tmp_path, quiet=True, env=TieConfig(**SMALL))
    first, again, other = (
        [(row["action"], row["reward"]) for row in read_run(train(o)).steps]
        for o in (options, options, dataclasses.replace(options, seed=6))
    )
    assert first == again != other


def test_the_command_line_explains_itself_and_refuses_nonsense(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--candidates" in capsys.readouterr().out
    with pytest.raises(ValueError, match="horizon=0 must be at least 1"):
        Options(horizon=0)
    with pytest.raises(ValueError, match="candidates=1 must be at least 2"):
        Options(candidates=1)
    with pytest.raises(SystemExit, match="2"):
        main(["--horizon", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_a_table_says_exactly_where_it_ends(tree_file):
    table, price = load_table(str(tree_file)), 0.1
    config = dataclasses.asdict(real_config(str(tree_file), "delta_ppl_params", price))
    env = gymnasium.make("TieEnv-v0", **{**config, "corpus": "synthetic:20000"})
    policy = Lookahead(env)
    with one_thread():
        for split in ("train", "held-out"):
            ends = []
            for seed in table.seeds[split]:
                observation, _ = env.reset(seed=seed)
                terminated = False
                while not terminated:
                    action, _ = policy.predict(observation)
                    observation, _, terminated, _, info = env.step(action)
                share = info["n_independent"] / 3
                ends.append(info["val_loss"] + price * share)
            (expected,) = (k for k in known(table, price, split) if k.policy == "lookahead")
            assert expected.objective.tolist() == pytest.approx(ends, abs=1e-12)
