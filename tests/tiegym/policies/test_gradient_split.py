"""Which group is split by gradients, where, and when."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiegym.small import SMALL
from tiegym import parts
from tiegym.config import TieConfig
from tiegym.policies.gradient_split import GradientSplit, split

CONFIG = TieConfig(
    **SMALL | {"n_layer": 6, "action": "joint", "tie_grad": "sum", "features": "moved+agreement"}
)


def observation(ties, agreement, iteration, config=CONFIG):
    stats = np.stack([np.linspace(1, -1, len(ties)), agreement], axis=1)  # moved, agreement
    return {
        "ties": np.array(ties, dtype=np.int16),
        "budget": np.array([iteration / config.max_iters], dtype=np.float32),
        "layer_stats": stats.flatten().astype(np.float32),
    }


@pytest.mark.parametrize(
    ("ties", "agreement", "expected"),
    [
        # The group of the lowest mean, not that of the lowest member.
        ([0, 0, 2, 2, 4, 4], [0.9, 0.1, 0.4, 0.4, 0.9, 0.8], [0, 0, 2, 3, 4, 4]),
        # Where both sides differ most.
        ([0] * 6, [0.9, 0.9, 0.8, 0.9, 0.2, 0.3], [0, 0, 0, 0, 4, 4]),
        ([0] * 6, [-0.5, 0.9, 0.8, 0.9, 0.8, 0.9], [0, 1, 1, 1, 1, 1]),
        # By the variance between both sides: 9 * 0.53^2 in the middle, 5 * 0.64^2 at the edge.
        ([0] * 6, [1.0, 0.6, 0.6, 0.2, 0.2, 0.2], [0, 0, 0, 3, 3, 3]),
        # All alike: in the middle, the first side one larger; the first of two groups.
        ([0] * 6, [0.5] * 6, [0, 0, 0, 3, 3, 3]),
        ([0] * 5 + [5], [0.5] * 6, [0, 0, 0, 3, 3, 5]),
        ([0, 0, 0, 3, 3, 3], [0.5] * 6, [0, 0, 2, 3, 3, 3]),
        # A layer alone agrees with itself, and is never split, whatever is said of it.
        ([0, 1, 2, 2, 4, 5], [-1, -1, 0.9, 0.9, -1, -1], [0, 1, 2, 3, 4, 5]),
        ([0, 1, 2, 3, 4, 5], [0.0] * 6, [0, 1, 2, 3, 4, 5]),
        # Of layers that aren't neighbours, in order; and of layers tied to tied ones.
        ([0, 1, 0, 1, 0, 1], [0.9, 0.9, 0.2, 0.9, 0.2, 0.9], [0, 1, 2, 1, 2, 1]),
        ([0, 0, 1, 2, 3, 4], [0.9, 0.9, 0.9, 0.9, 0.1, 0.2], [0, 0, 0, 0, 4, 4]),
    ],
)
def test_the_group_that_disagrees_most_is_split_where_it_does(ties, agreement, expected):
    given = np.array(ties)
    assert split(given, agreement, 6).tolist() == expected
    assert given.tolist() == ties


def test_parts_are_split_apart():
    ties = [0] * 4 + [0, 0, 2, 2]
    agreement = [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.2, 0.1]
    assert split(np.array(ties), agreement, 4).tolist() == [0] * 4 + [0, 0, 2, 3]
    agreement = [0.5, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9]
    assert split(np.array(ties), agreement, 4).tolist() == [0, 1, 1, 1, 0, 0, 2, 2]


@given(
    st.tuples(*(st.integers(0, i) for i in range(6))).map(np.array),
    st.lists(st.floats(-1, 1), min_size=6, max_size=6),
)
def test_a_split_makes_one_group_more_and_moves_no_layer_between_others(ties, agreement):
    after = split(ties, agreement, 6)
    before, roots = parts.roots(ties, 6), parts.roots(parts.validate(after, 6), 6)
    n = len(set(before))
    assert len(set(roots)) == min(n + 1, 6)
    changed = np.flatnonzero(before != roots)
    assert len(set(before[changed])) == len(set(roots[changed])) == (n < 6)


def test_splits_are_made_at_intervals_until_there_are_enough():
    policy = GradientSplit(CONFIG, every=2, until=3)
    told = []
    ties = [0] * 6
    for iteration in range(0, 12, 2):  # two iterations a step
        action, _ = policy.predict(observation(ties, [0.5] * 6, iteration))
        assert len(action) == 5
        ties = [0, *action.tolist()]
        told.append(ties)
    split_once, split_twice = [0, 0, 0, 3, 3, 3], [0, 0, 2, 3, 3, 3]
    assert told == [[0] * 6] * 2 + [split_once] * 2 + [split_twice] * 2
    assert [0, *policy.predict(observation(ties, [0.5] * 6, 8))[0]] == split_twice


def test_layers_that_can_be_frozen_never_are():
    config = TieConfig(**CONFIG.__dict__ | {"choices": "tie+freeze"})
    policy = GradientSplit(config, every=1, until=6)
    action, _ = policy.predict(observation([0] * 6, [0.5] * 6, 2))
    assert action.tolist() == [0, 0, 0, 3, 3, 3]
