"""RecurrentPPO learns, and remembers: the same observation can lead to another action."""

import numpy as np
import pytest

from agents import recurrent_ppo
from agents.protocols import Greedy
from tests.agents.known_answer import KnownAnswer, finds_the_best_ties, greedy_ties
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

BEST = [0, 1, 0, 1, 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "seed"),
    [
        ("joint", 0),
        ("layerwise", 0),
        pytest.param("layerwise", 1, marks=pytest.mark.exhaustive),
        pytest.param("joint", 1, marks=pytest.mark.exhaustive),
    ],
)
def test_it_learns_the_best_tie_vector(action, seed):
    env = KnownAnswer(BEST, action, floor=2.0, noise=0.1)
    model = recurrent_ppo.make_model(recurrent_ppo.Options(seed=seed, env=env.config), env)
    policy = Greedy(model, env)
    assert greedy_ties(policy, env) != BEST
    assert finds_the_best_ties(model, policy, env, steps=4000)


def test_it_remembers_the_episode_and_forgets_it_at_the_next():
    env = KnownAnswer(BEST)
    model = recurrent_ppo.make_model(recurrent_ppo.Options(seed=0, env=env.config), env)
    policy, (observation, _) = Greedy(model, env), env.reset(seed=0)
    _, first = policy.predict(observation, None, np.array([True]))
    _, second = policy.predict(observation, first, np.array([False]))
    _, anew = policy.predict(observation, second, np.array([True]))
    assert not np.allclose(first[0], second[0])
    assert np.allclose(first[0], anew[0])


@pytest.mark.parametrize("runs", [0, 1])
def test_it_plays_a_run_of_several_episodes(tmp_path, runs):
    options = recurrent_ppo.Options(
        runs_dir=tmp_path,
        quiet=True,
        pretrain_runs=runs,
        total_steps=8,
        n_steps=3,
        n_epochs=1,
        env=TieConfig(**SMALL | {"action": "pair"}),
    )
    run = read_run(recurrent_ppo.train(options))
    assert [row["episode"] for row in run.steps] == [0] * 6 + [1] * 2
    assert run.summary["finished"]
