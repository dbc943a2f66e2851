"""PPO learns with each kind of actions, and its runs are recorded."""

import pytest

from agents import ppo
from agents.protocols import Greedy
from tests.agents.known_answer import KnownAnswer, finds_the_best_ties, greedy_ties
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

BEST = [0, 1, 0, 1, 4]


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_it_learns_the_best_tie_vector(action, seed):
    best = BEST if action != "pair" else [0, 1, 0, 3]  # with pairs there is more to explore
    env = KnownAnswer(best, action, floor=2.0, noise=0.1)
    model = ppo.make_model(ppo.Options(seed=seed, env=env.config), env)
    policy = Greedy(model, env)
    assert greedy_ties(policy, env) != best
    assert finds_the_best_ties(model, policy, env, steps=4000)


@pytest.mark.slow
def test_it_learns_from_differences_where_the_level_of_the_reward_hides_them():
    def learns(differences):
        env = KnownAnswer(BEST, floor=20.0)
        options = ppo.Options(seed=0, env=env.config, reward_differences=differences)
        model = ppo.make_model(options, env)
        return finds_the_best_ties(model, Greedy(model, env), env, steps=2000)

    assert learns(True)
    assert not learns(False)


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_a_run_has_as_many_steps_as_any_other_policys(tmp_path, action):
    env = TieConfig(**SMALL | {"action": action})
    folder = ppo.train(ppo.Options(n_steps=4, n_epochs=1, runs_dir=tmp_path, quiet=True, env=env))
    run = read_run(folder)
    assert run.config["program"] == "ppo"
    assert [row["iteration"] for row in run.steps] == [2, 4, 6, 8, 10, 12]
    assert run.summary["finished"]
