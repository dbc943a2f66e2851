"""Regret is exact: of policies whose ends are known, it is what backward induction says."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit, TransformAction

from tiegym import TieEnv
from tiegym.bench.environment import TieBench
from tiegym.bench.regret import known_regrets, play, regret
from tiegym.bench.table import SPLITS
from tiegym.bench.values import best_leaf, leaf_of, node_rewards, optimal_values, path_returns
from tiegym.policies.fixed import FixedTies
from tiegym.policies.random_tying import RandomTying

PRICE = 0.2


class Sequences:
    """Takes decisions that are made in advance: one list of them for each episode, in turn."""

    def __init__(self, *episodes):
        self.episodes = list(episodes)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        assert deterministic
        assert episode_start.tolist() == [state is None]
        left = self.episodes.pop(0) if state is None else state
        return np.int64(left[0]), left[1:]


@pytest.fixture(params=SPLITS)
def split(request):
    return request.param


@pytest.fixture
def env(tree_file, split):
    return TimeLimit(TieBench(str(tree_file), split), 100)  # wrapped, as by gymnasium.make


def test_the_best_sequence_has_the_regret_that_backward_induction_says(tree_table, env, split):
    tree, rows = tree_table.tree, tree_table.rows_of(split)
    rewards = node_rewards(tree_table, "delta_ppl_params", PRICE)
    leaf = best_leaf(tree, rewards[tree_table.rows_of("train")])
    ends = play(Sequences(*[tree.path(leaf)] * len(rows)), env)
    assert ends.tolist() == [leaf] * len(rows)
    found = regret(tree_table, ends, PRICE, split)
    assert found.tolist() == known_regrets(tree_table, PRICE, split)["best sequence"].tolist()
    best = optimal_values(tree, rewards)[rows, 0]
    assert found == pytest.approx(best - path_returns(tree, rewards, leaf)[rows])


def test_who_plays_the_best_end_of_each_seed_has_none(tree_table, env, split):
    tree, rows = tree_table.tree, tree_table.rows_of(split)
    share = (tree.ties == np.arange(3)).mean(axis=1)
    at = (tree_table.losses("test") + PRICE * share)[rows]
    best = tree.leaves[at[:, tree.leaves].argmin(axis=1)]
    ends = play(Sequences(*[tree.path(leaf) for leaf in best]), env)
    assert regret(tree_table, ends, PRICE, split, "test").tolist() == [0.0] * len(rows)


def test_no_end_has_less_regret_than_none(tree_table, split):
    rows, leaves = tree_table.rows_of(split), tree_table.tree.leaves
    found = regret(tree_table, np.tile(leaves[:, None], len(rows)), PRICE, split)
    assert found.shape == (len(leaves), len(rows))
    assert (found.min(axis=0) == 0).all()


def test_what_random_tying_draws_has_the_expected_regret_on_average(tree_table, env, split):
    policy = RandomTying(env.action_space, 3, seed=0)
    ends = np.array([play(policy, env) for _ in range(600)])
    drawn = regret(tree_table, ends, PRICE, split)
    expected = known_regrets(tree_table, PRICE, split)["random"]
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - expected) < 4 * error).all()
    assert (drawn.std(axis=0) > 0).all()


def test_a_pattern_that_is_played_ends_with_its_ties(tree_table, env):
    tree, ties = tree_table.tree, np.array([0, 1, 0])
    ends = play(FixedTies(ties, env.action_space), env)
    assert set(ends.tolist()) == {leaf_of(tree, ties)}


def test_the_end_is_where_wrappers_led_and_not_what_the_policy_asked_for(
    tree_table, tree_file, split
):
    """A wrapper that swaps two actions, outside of the recorded decisions."""
    tree, rows = tree_table.tree, tree_table.rows_of(split)
    bench = TieBench(str(tree_file), split)
    swapped = TransformAction(bench, lambda a: np.array([1, 0, 2])[a], bench.action_space)
    asked, done = [0, 1, 1, 2], [1, 0, 0, 2]
    ends = play(Sequences(*[asked] * len(rows)), swapped)
    assert [tree.path(int(end)) for end in ends] == [done] * len(rows)


def test_an_episode_that_is_cut_off_ends_there_and_has_no_regret(tree_table, tree_file, split):
    rows = tree_table.rows_of(split)
    short = TimeLimit(TieBench(str(tree_file), split), 2)
    ends = play(Sequences(*[[0, 1, 0, 0]] * len(rows)), short)
    assert tree_table.tree.depth[ends].tolist() == [2] * len(rows)
    with pytest.raises(ValueError, match="must be leaves: "):
        regret(tree_table, ends, PRICE, split)


def test_a_policy_is_told_the_beginning_of_each_episode(tree_table, tree_file, split):
    starts = []

    class Asked(Sequences):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            starts.append(bool(episode_start[0]))
            return super().predict(observation, state, episode_start, deterministic)

    bench = gymnasium.Wrapper(TieBench(str(tree_file), split))
    rows = tree_table.rows_of(split)
    play(Asked(*[[0, 0, 0, 0]] * len(rows)), bench)
    assert starts == [True, False, False, False] * len(rows)
    assert bench.unwrapped.node in tree_table.tree.leaves


def test_ends_that_are_none_are_refused(tree_table, split):
    leaves = tree_table.tree.leaves
    with pytest.raises(ValueError, match=r"an end for each of the \d recorded seeds"):
        regret(tree_table, leaves[:5], PRICE, split)
    with pytest.raises(ValueError, match="must be leaves: "):
        regret(tree_table, np.zeros(len(tree_table.rows_of(split)), dtype=int), PRICE, split)


def test_an_environment_that_trains_is_refused():
    env = TieEnv(corpus="synthetic:50000", max_iters=8)
    with pytest.raises(TypeError, match="give a TieBench-v0"):
        play(Sequences([0]), env)
