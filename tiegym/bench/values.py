"""What is known exactly of a tree: the value of every policy, and of the best ones.

Returns are undiscounted sums of rewards over an episode. Everything is computed from the recorded
losses by backward induction; nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from tiegym.bench.table import Floats, LossKind, Table
from tiegym.bench.tree import Ints, Tree
from tiegym.config import Reward
from tiegym.rewards import reward

Choice = Callable[[int, int], npt.NDArray[np.float64]]
"""Probabilities of the raw actions 0 to L-1 for the layer under the cursor: (layer, L) -> (L,)."""


def node_rewards(table: Table, kind: Reward, param_cost: float = 0.0) -> Floats:
    """The reward of arriving at each node, (R, N), 0 at the root; as `tiegym.rewards.reward`.

    Args:
        table: A tree.
        kind: The reward.
        param_cost: Price in nats of an independent share of 1.
    """
    tree, loss = table.tree, table.losses("val")
    share = independent_share(tree)
    before = np.maximum(tree.parent, 0)
    one = np.vectorize(partial(reward, kind), otypes=[float])
    rewards: Floats = one(loss, loss[:, before], share, param_cost, share[before])
    rewards[:, 0] = 0.0
    return rewards


def independent_share(tree: Tree) -> Floats:
    """Independent layers over all layers at each node, (N,)."""
    share: Floats = (tree.ties == np.arange(tree.n_layer)).mean(axis=1)
    return share


def objectives(table: Table, price: float, loss: LossKind = "val") -> Floats:
    """The loss plus the price times the independent share at each node, (R, N), in nats.

    At the leaves it is what a run is judged by; lower is better. The price is in nats, of training
    all layers independently.
    """
    values: Floats = table.losses(loss) + price * independent_share(table.tree)
    return values


def optimal_values(tree: Tree, rewards: Floats) -> Floats:
    """The largest return that can still be had from each node, (R, N), for each seed by itself.

    That of a policy which knows the recorded seed. For the mean over seeds, give the mean of the
    rewards, (1, N): the value is then that of the best sequence of decisions made in advance.
    """
    values = np.zeros_like(rewards)
    for depth in range(tree.n_decisions - 1, -1, -1):
        nodes = tree.at(depth)
        after = tree.children[nodes]  # (n, L); actions that are alike lead to the same child
        values[:, nodes] = (rewards[:, after] + values[:, after]).max(axis=2)
    return values


def policy_values(tree: Tree, rewards: Floats, choice: Choice) -> Floats:
    """The expected return from each node, (R, N), of a policy that draws from the raw actions."""
    values = np.zeros_like(rewards)
    for depth in range(tree.n_decisions - 1, -1, -1):
        nodes = tree.at(depth)
        probabilities = choice(int(tree.layer[nodes[0]]), tree.n_layer)
        after = tree.children[nodes]
        values[:, nodes] = (rewards[:, after] + values[:, after]) @ probabilities
    return values


def best_leaf(tree: Tree, rewards: Floats) -> int:
    """Where the best sequence of decisions ends, for the mean of the rewards over their rows."""
    mean = rewards.mean(axis=0, keepdims=True)
    values = optimal_values(tree, mean)
    node = 0
    while tree.children[node, 0] >= 0:
        after = tree.children[node]
        node = int(after[np.argmax(mean[0, after] + values[0, after])])
    return node


def lookahead_leaves(tree: Tree, rewards: Floats) -> Ints:
    """Where who sees the next reward of each decision, and takes the best, ends, (R,).

    Of equal rewards the one with the fewest independent layers is taken, and of these the one that
    changes nothing, then that of the lowest target: as `agents.lookahead` does with a horizon of 1.
    """
    independent = (tree.ties == np.arange(tree.n_layer)).sum(axis=1)
    nodes = np.zeros(len(rewards), dtype=np.int64)
    for row, reward_of in enumerate(rewards):
        node = 0
        while tree.children[node, 0] >= 0:
            layer = tree.layer[node]
            actions = [tree.ties[node, layer], *range(layer + 1)]
            after = [int(tree.children[node, action]) for action in actions]
            node = max(after, key=lambda k: (reward_of[k], -independent[k]))  # the first of equals
        nodes[row] = node
    return nodes


def path_returns(tree: Tree, rewards: Floats, leaf: int) -> Floats:
    """The return of the decisions that lead to a node, for each row of the rewards, (R,)."""
    total = np.zeros(len(rewards))
    node = leaf
    while node > 0:
        total += rewards[:, node]
        node = int(tree.parent[node])
    return total


def leaf_of(tree: Tree, ties: Ints) -> int:
    """Where decisions end that always choose the targets of one tie vector (L,)."""
    node = 0
    while tree.children[node, 0] >= 0:
        node = int(tree.children[node, ties[tree.layer[node]]])
    return node


def uniform_allowed(layer: int, n_layer: int) -> npt.NDArray[np.float64]:
    """Random tying: uniform over the targets up to the layer itself."""
    return np.where(np.arange(n_layer) <= layer, 1 / (layer + 1), 0.0)


def uniform_raw(layer: int, n_layer: int) -> npt.NDArray[np.float64]:
    """Uniform over all raw actions, as the exploration of agents that know no mask."""
    return np.full(n_layer, 1 / n_layer)
