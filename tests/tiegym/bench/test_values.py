"""Backward induction against going through all sequences one by one."""

from __future__ import annotations

import numpy as np
import pytest

from tiegym.bench.values import (
    best_leaf,
    leaf_of,
    node_rewards,
    optimal_values,
    path_returns,
    policy_values,
    uniform_allowed,
    uniform_raw,
)
from tiegym.rewards import reward

KINDS = ("neg_log_ppl", "neg_ppl", "delta_log_ppl", "ppl_params", "delta_ppl_params")


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_are_those_of_the_environment(tree_table, kind):
    tree, loss = tree_table.tree, tree_table.losses("val")
    cost = 0.3 if kind.endswith("params") else 0.0
    rewards = node_rewards(tree_table, kind, cost)
    share = (tree.ties == np.arange(3)).sum(axis=1) / 3
    for node in range(1, len(tree.ties)):
        before = tree.parent[node]
        expected = reward(kind, loss[1, node], loss[1, before], share[node], cost, share[before])
        assert rewards[1, node] == pytest.approx(expected, rel=1e-12)


def test_optimal_values_are_the_best_of_all_sequences(tree_table):
    tree = tree_table.tree
    rewards = node_rewards(tree_table, "ppl_params", 0.2)
    all_returns = np.array([path_returns(tree, rewards, int(leaf)) for leaf in tree.leaves])
    assert optimal_values(tree, rewards)[:, 0] == pytest.approx(all_returns.max(axis=0))
    best = best_leaf(tree, rewards)
    mean = all_returns.mean(axis=1)
    assert path_returns(tree, rewards, best).mean() == pytest.approx(mean.max())
    assert optimal_values(tree, rewards)[:, 0].mean() >= mean.max()


@pytest.mark.parametrize("choice", [uniform_allowed, uniform_raw])
def test_the_value_of_chance_is_the_weighted_mean_of_all_sequences(tree_table, choice):
    tree = tree_table.tree
    rewards = node_rewards(tree_table, "neg_log_ppl")
    total = weights = 0.0
    for leaf in tree.leaves:
        weight, node = 1.0, int(leaf)
        while node:
            parent = tree.parent[node]
            weight *= choice(int(tree.layer[parent]), 3)[tree.children[parent] == node].sum()
            node = int(parent)
        total, weights = total + weight * path_returns(tree, rewards, int(leaf)), weights + weight
    assert weights == pytest.approx(1)
    assert policy_values(tree, rewards, choice)[:, 0] == pytest.approx(total)


def test_the_price_of_parameters_adds_up_to_that_of_the_end(tree_table):
    tree, loss = tree_table.tree, tree_table.losses("val")
    rewards = node_rewards(tree_table, "delta_ppl_params", 0.4)
    for leaf in tree.leaves[:10]:
        share = (tree.ties[leaf] == np.arange(3)).mean()
        expected = loss[:, 0] - loss[:, leaf] - 0.4 * (share - 1 / 3)
        assert path_returns(tree, rewards, int(leaf)) == pytest.approx(expected)


def test_a_fixed_choice_ends_with_its_ties(tree_table):
    tree = tree_table.tree
    assert tree.ties[leaf_of(tree, np.array([0, 1, 1]))].tolist() == [0, 1, 1]
