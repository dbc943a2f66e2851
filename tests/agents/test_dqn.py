"""DQN learns under the settings that its program has, and says what it can't do."""

import pytest

from agents import dqn
from agents.protocols import Greedy
from tests.agents.known_answer import KnownAnswer, finds_the_best_ties, greedy_ties
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig

BEST = [0, 1, 0, 1, 4]


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (1, 2))]
)
def test_it_learns_the_best_tie_vector(seed):
    env = KnownAnswer(BEST, floor=2.0, noise=0.1)
    model = dqn.make_model(dqn.Options(seed=seed, env=env.config), env)
    policy = Greedy(model, env)
    assert greedy_ties(policy, env) != BEST
    assert finds_the_best_ties(model, policy, env, steps=2000)


def test_joint_actions_are_refused_with_what_to_use_instead():
    with pytest.raises(ValueError, match=r"env\.action='joint'.*agents\.ppo"):
        dqn.Options(env=TieConfig(**SMALL | {"action": "joint"}))
