"""Agents and baselines where attention and MLP share apart, and where layers can be frozen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

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
    regularised_evolution,
)
from agents.protocols import Greedy
from baselines import fixed, gradient_split, random_fixed, random_raw, random_tying, schedules
from tests.agents.known_answer import KnownAnswer, finds_the_best_ties, greedy_ties
from tests.tiegym.small import SMALL
from tiegym import parts
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run

PARTS = TieConfig(**SMALL | {"tie_parts": "attention+mlp"})
FREEZE = TieConfig(**SMALL | {"choices": "tie+freeze"})
BOTH = dataclasses.replace(PARTS, choices="tie+freeze")

PROGRAMS = {
    "random": (random_tying, {}),
    "random-raw": (random_raw, {}),
    "random-fixed": (random_fixed, {}),
    "fixed": (fixed, {"pattern": "cycle:2"}),
    "schedules": (schedules, {}),
    "gradient-split": (gradient_split, {"every": 1}),
    "lookahead": (lookahead, {"candidates": 2}),
    "evolution": (evolution, {"population": 2, "sample": 1, "evaluations": 3, "budget": 3}),
    "qlearning": (qlearning, {}),
    "decision_s4": (decision_s4, {"pretrain_runs": 2}),
    "pairwise": (pairwise, {"n_steps": 4, "n_epochs": 1}),
    "dqn": (dqn, {"learning_starts": 1}),
    "ppo": (ppo, {"n_steps": 4, "n_epochs": 1}),
    "maskable_ppo": (maskable_ppo, {"n_steps": 4, "n_epochs": 1}),
    "recurrent_ppo": (recurrent_ppo, {"n_steps": 4, "n_epochs": 1}),
}
ANY_ACTION = {"random", "random-raw", "random-fixed", "fixed", "lookahead", "evolution"}


@pytest.mark.parametrize(
    ("name", "action"),
    [(name, "layerwise") for name in PROGRAMS]  # the others learn by the spaces alone, or layerwise
    + [(name, action) for name in sorted(ANY_ACTION) for action in ("pair", "joint")],
)
def test_every_program_runs_where_parts_share_apart_and_can_be_frozen(tmp_path, name, action):
    program, own = PROGRAMS[name]
    env = dataclasses.replace(BOTH, action=action)
    options = program.Options(runs_dir=tmp_path, quiet=True, env=env, seed=1, **own)
    run = read_run(program.train(options))
    for row in run.steps:
        assert parts.validate(row["ties"], 4, 2).tolist() == row["ties"]
        assert len(row["frozen"]) == 8
    assert run.summary["finished"]


def test_random_tying_draws_all_choices_that_differ_alike():
    env = TieEnv(**{**BOTH.__dict__, "max_iters": 2**30})
    policy = random_tying.RandomTying(env.action_space, 4, seed=0)
    observation, _ = env.reset(seed=0)
    for layer, part in ((0, 0), (2, 1), (3, 0)):
        seen = observation | {"layer": layer, "part": part}
        drawn = [int(policy.predict(seen)[0]) for _ in range(3000)]
        shares = np.bincount(drawn, minlength=5) / len(drawn)
        expected = np.array([a <= layer or a == 4 for a in range(5)]) / (layer + 2)
        assert shares == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_a_fixed_pattern_holds_for_both_parts_and_thaws_what_is_frozen(action):
    env = TieEnv(**{**BOTH.__dict__, "action": action, "max_iters": 60, "n_embd": 4})
    policy = fixed.FixedTies(np.array([0, 0, 2, 2]), env.action_space)
    env.action_space.seed(1)
    env.reset(seed=1)
    for _ in range(6):
        observation, *_ = env.step(env.action_space.sample())
    for _ in range(10):
        observation, *_, info = env.step(policy.predict(observation)[0])
    assert info["ties"].tolist() == [0, 0, 2, 2] * 2
    assert not info["frozen"].any()


def test_a_schedule_changes_both_parts_at_once(tmp_path):
    options = schedules.Options(
        runs_dir=tmp_path, quiet=True, env=PARTS, schedule="share-then-unshare"
    )
    rows = read_run(schedules.train(options)).steps
    assert {tuple(row["ties"]) for row in rows} == {(0,) * 8, (0, 1, 2, 3) * 2}


# The paper's agent


@pytest.mark.parametrize(
    "problem",
    [
        {"best": [0, 1, 0, 0, 0, 2], "tie_parts": "attention+mlp"},
        {"best": [0, 1, 0, 0], "frozen": [False, True, False, False]},
        {
            "best": [0, 1, 0, 0],
            "tie_parts": "attention+mlp",
            "frozen": [False, True, True, False],
        },
    ],
    ids=["parts", "frozen", "both"],
)
def test_qlearning_finds_the_best_ties_of_both_parts_and_what_to_freeze(problem):
    env = KnownAnswer(sweeps=1, noise=0.1, **problem)
    model = qlearning.QLearning("LayerPolicy", env, device="cpu", seed=0)
    greedy_ties(model, env)
    assert env.wrong > 0
    left = []
    while 0 not in left and len(left) < 4:  # it may leave the best again, and come back
        model.learn(700, reset_num_timesteps=False)
        greedy_ties(model, env)
        left.append(env.wrong)
    assert 0 in left


def test_the_q_network_has_an_output_for_each_choice_of_each_part():
    env = KnownAnswer([0, 1, 0] * 2, tie_parts="attention+mlp", frozen=[False] * 6)
    model = qlearning.QLearning("LayerPolicy", env, device="cpu", seed=0)
    sizes = [tuple(p.shape) for p in model.q_net.q_net.parameters()]
    assert sizes == [(128, 12), (128,), (2 * (2 + 3 + 4), 128), (18,)]
    observation, _ = env.reset(seed=0)
    state = torch.zeros(12)
    outputs = model.q_net.q_net(state)
    for layer, part, first in ((0, 0, 0), (2, 0, 5), (0, 1, 9), (1, 1, 11)):
        seen = {k: torch.as_tensor(np.asarray(v))[None] for k, v in observation.items()}
        seen |= {"layer": torch.tensor([layer]), "part": torch.tensor([part])}
        values = model.q_net(seen)[0]
        assert torch.equal(values[: layer + 1], outputs[first : first + layer + 1])
        assert values[3] == outputs[first + layer + 1]  # freezing
        assert (values[layer:3] == values[layer]).all()


def test_qlearning_explores_all_choices_that_differ_alike():
    env = KnownAnswer([0, 1, 2, 3], frozen=[False] * 4)
    model = qlearning.QLearning("LayerPolicy", env, device="cpu", seed=0)
    model.exploration_rate = 1.0
    observation, _ = env.reset(seed=0)
    for layer in (0, 2):
        seen = observation | {"layer": np.int64(layer)}
        drawn = [int(model.predict(seen)[0]) for _ in range(1000)]
        shares = np.bincount(drawn, minlength=5) / len(drawn)
        expected = np.array([a <= layer or a == 4 for a in range(5)]) / (layer + 2)
        assert shares == pytest.approx(expected, abs=0.06)


def test_epsilon_falls_once_a_sweep_of_all_parts():
    env = KnownAnswer([0, 1, 0] * 2, tie_parts="attention+mlp")
    model = qlearning.QLearning("LayerPolicy", env, device="cpu", epsilon_decay=0.5)
    model.num_timesteps = 3
    assert model.epsilon() == 1
    model.num_timesteps = 4  # two parts of layers 1 and 2
    assert model.epsilon() == 0.5


# Pairwise


def agent_of(env, **changes):
    return pairwise.make_model(pairwise.Options(env=env.config, **changes), env)


def test_pairwise_learns_parts_and_freezing_at_3_layers_and_does_it_at_6():
    def known(n_layer):
        # The attention of each layer is the one before it's, the MLP is its own and frozen.
        attention = [0, *range(n_layer - 1)]
        return KnownAnswer(
            [*attention, *range(n_layer)],
            floor=2.0,
            tie_parts="attention+mlp",
            frozen=[False] * n_layer + [True] * n_layer,
        )

    small, large = known(3), known(6)
    trained, model = agent_of(small, seed=0), agent_of(large, seed=0)
    greedy_ties(Greedy(model, large), large)
    assert large.wrong > 0
    assert finds_the_best_ties(trained, Greedy(trained, small), small, steps=8000)
    model.policy.load_state_dict(trained.policy.state_dict())
    greedy_ties(Greedy(model, large), large)
    assert large.wrong == 0


def test_pairwise_never_chooses_a_later_layer_but_may_freeze_any():
    env = KnownAnswer([0, 1, 2, 3] * 2, tie_parts="attention+mlp", frozen=[False] * 8)
    model = agent_of(env, seed=0)
    observation, _ = env.reset(seed=0)
    for layer in range(4):
        seen = observation | {"layer": np.int64(layer), "part": np.int64(1)}
        chosen = {int(model.predict(seen, deterministic=False)[0]) for _ in range(200)}
        assert chosen == {*range(layer + 1), 4}


def test_pairwise_looks_at_the_part_under_the_cursor():
    env = KnownAnswer([0, 1, 2, 3] * 2, tie_parts="attention+mlp")
    model = agent_of(env, seed=0)
    observation, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    stats = rng.uniform(-1, 1, 24).astype(np.float32)

    def scores(stats, part):
        seen = observation | {"layer": np.int64(3), "part": np.int64(part), "layer_stats": stats}
        batch, _ = model.policy.obs_to_tensor(seen)
        return model.policy.scores_and_values(batch)[0].detach()

    other = stats.copy()
    other[:12] *= -1  # of the attention
    assert torch.equal(scores(stats, 1), scores(other, 1))
    assert not torch.equal(scores(stats, 0), scores(other, 0))


def test_an_agent_of_another_sharing_is_refused(tmp_path):
    short = {"runs_dir": tmp_path, "quiet": True, "n_steps": 4, "n_epochs": 1}
    source = pairwise.train(pairwise.Options(env=PARTS, name="source", **short))
    with pytest.raises(InputError, match="has an agent for tie_parts"):
        pairwise.train(pairwise.Options(env=TieConfig(**SMALL), source=source, **short))


# Search


def test_lookahead_tries_each_different_outcome_once():
    env = TieEnv(**{**BOTH.__dict__, "initial_ties": "0,0,2,2,0,0,0,0"})
    policy = lookahead.Lookahead(env)
    observation, _ = env.reset(seed=0)
    seen = observation | {"layer": 3, "part": 0}
    tried = [(int(action), after.tolist()) for action, after in policy.choices(seen)]
    # Tied to 2 as it is, to 0 (as which 1 would do), its own, its own and frozen.
    assert tried == [
        (2, [0, 0, 2, 2, 0, 0, 0, 0]),
        (0, [0, 0, 2, 0, 0, 0, 0, 0]),
        (3, [0, 0, 2, 3, 0, 0, 0, 0]),
        (4, [0, 0, 2, 4, 0, 0, 0, 0]),
    ]


def test_lookahead_keeps_what_it_tries_frozen():
    env = TieEnv(**{**FREEZE.__dict__, "action": "pair"})
    policy = lookahead.Lookahead(env, horizon=3)
    observation, _ = env.reset(seed=0)
    kept = []
    fork = type(env).fork

    def watched(self):
        twin = fork(self)
        step = twin.step
        twin.step = lambda action: kept.append(step(action)) or kept[-1]
        return twin

    env.fork = watched.__get__(env)
    action = policy.actions.choose(2, 3)
    policy.trial(action, np.array([0, 0, 3, 0]), observation)
    assert [k[4]["frozen"].tolist() for k in kept] == [[False, False, True, False]] * 3


def test_evolution_mutates_one_part_of_one_layer():
    rng = np.random.default_rng(0)
    ties = np.array([0, 1, 1, 3, 0, 0, 2, 2])
    changed = set()
    for _ in range(500):
        child = regularised_evolution.mutate(ties, rng, 4)
        parts.validate(child, 4, 2)
        (unit,) = np.flatnonzero(child != ties)
        changed.add(int(unit))
    assert changed == {1, 2, 3, 5, 6, 7}


def test_evolution_counts_a_sharing_of_both_parts_once():
    best, calls = np.array([0, 1, 0, 0]), []

    def cost(ties):
        calls.append(tuple(parts.roots(ties, 2)))
        return float(np.count_nonzero(parts.roots(ties, 2) != parts.roots(best, 2)))

    options = evolution.Options(population=3, sample=2, evaluations=20, env=PARTS)
    found = evolution.evolve(cost, 2, options, np.random.default_rng(0), n_parts=2)
    assert found.ties == (0, 1, 0, 0)
    assert found.n_independent == 3
    assert len(calls) == len(set(calls)) == 4  # two sharings of two layers, of each part
