"""MaskablePPO learns, and chooses among the actions that differ only."""

import gymnasium
import pytest

import tiegym  # noqa: F401 registers the environments
from agents import maskable_ppo
from agents.protocols import Greedy
from tests.agents.known_answer import KnownAnswer, finds_the_best_ties, greedy_ties
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

BEST = [0, 1, 0, 1, 4]


@pytest.mark.parametrize(
    ("action", "seed"),
    [("layerwise", 1), pytest.param("layerwise", 2, marks=pytest.mark.exhaustive), ("pair", 0)],
)
def test_it_learns_the_best_tie_vector(action, seed):
    best = BEST if action != "pair" else [0, 1, 0, 3]  # with pairs there is more to explore
    env = KnownAnswer(best, action, floor=2.0, noise=0.1)
    model = maskable_ppo.make_model(maskable_ppo.Options(seed=seed, env=env.config), env)
    policy = Greedy(model, env)
    assert greedy_ties(policy, env) != best
    assert finds_the_best_ties(model, policy, env, steps=4000)


@pytest.mark.parametrize("runs", [0, 2])
def test_its_actions_are_those_that_differ(tmp_path, runs):
    options = maskable_ppo.Options(
        runs_dir=tmp_path,
        quiet=True,
        pretrain_runs=runs,
        n_steps=4,
        n_epochs=1,
        env=TieConfig(**SMALL),
    )
    steps = read_run(maskable_ppo.train(options)).steps
    layers = [1, 2, 3, 1, 2, 3]
    assert all(row["action"] <= layer for row, layer in zip(steps, layers, strict=True))


def test_the_masks_reach_it_through_wrappers():
    env = gymnasium.make("TieEnv-v0", **SMALL)
    env = gymnasium.wrappers.TimeLimit(env, 50)
    options = maskable_ppo.Options(env=TieConfig(**SMALL), n_steps=3, n_epochs=1)
    model = maskable_ppo.make_model(options, env).learn(3)
    masks = model.rollout_buffer.action_masks.reshape(3, SMALL["n_layer"])
    assert masks.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


@pytest.mark.parametrize("runs", [0, 1])
def test_joint_actions_are_played_under_masks_that_allow_all(tmp_path, runs):
    options = maskable_ppo.Options(
        runs_dir=tmp_path,
        quiet=True,
        pretrain_runs=runs,
        n_steps=4,
        n_epochs=1,
        env=TieConfig(**SMALL | {"action": "joint"}),
    )
    run = read_run(maskable_ppo.train(options))
    assert run.summary["finished"]
    assert [len(row["action"]) for row in run.steps] == [SMALL["n_layer"] - 1] * len(run.steps)
