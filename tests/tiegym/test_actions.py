"""Every action means a choice of a unit, and every choice has an action."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from gymnasium import spaces

from tiegym.actions import Actions
from tiegym.config import TieConfig
from tiegym.spaces import make_action_space, make_observation_space

KINDS = ("layerwise", "pair", "joint")
EVERY = [
    Actions(kind, n_layer, n_parts, freeze)
    for kind, n_layer, n_parts, freeze in itertools.product(KINDS, (1, 2, 4), (1, 2), (False, True))
    if kind != "joint" or n_layer > 1 or freeze
]


def some_choices(actions, rng):
    return rng.integers(0, actions.n_choices)


@pytest.mark.parametrize("actions", EVERY, ids=repr)
def test_every_choice_has_an_action_that_makes_it_and_changes_nothing_else(actions):
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, wanted = some_choices(actions, rng), some_choices(actions, rng)
        if actions.kind == "joint":
            after = actions.after(actions.choose_all(wanted), before, 0)
            assert actions.space().contains(actions.choose_all(wanted))
            assert after.tolist() == wanted.tolist()  # what has no choice is 0 in both
            continue
        for unit in actions.turns if actions.kind == "layerwise" else range(actions.n_units):
            action = actions.choose(unit, int(wanted[unit]))
            assert actions.space().contains(action)
            expected = before.copy()
            expected[unit] = wanted[unit]
            assert actions.after(action, before, unit).tolist() == expected.tolist()


@pytest.mark.parametrize("actions", [a for a in EVERY if a.kind != "joint"], ids=repr)
def test_the_mask_keeps_exactly_one_action_for_each_different_outcome(actions):
    rng = np.random.default_rng(1)
    for unit in actions.turns if actions.kind == "layerwise" else [0]:
        before = some_choices(actions, rng)
        every = [tuple(actions.after(a, before, unit)) for a in range(actions.space().n)]
        masked = [every[a] for a in np.flatnonzero(actions.mask(unit))]
        assert set(masked) == set(every)
        if actions.kind == "layerwise":
            assert len(masked) == len(set(masked)) == actions.n_choices[unit]


@pytest.mark.parametrize("actions", EVERY, ids=repr)
def test_choices_are_ties_and_what_is_frozen(actions):
    choices = some_choices(actions, np.random.default_rng(2))
    ties, frozen = actions.ties_of(choices)
    assert actions.choices(ties, frozen).tolist() == choices.tolist()
    assert (ties <= actions.layer).all()
    assert not (frozen & (ties != actions.layer)).any()
    assert actions.freeze or not frozen.any()


@pytest.mark.parametrize("actions", EVERY, ids=repr)
def test_a_policy_tells_the_protocol_by_the_spaces(actions):
    config = TieConfig(
        n_layer=actions.n_layer,
        action=actions.kind,
        tie_parts="block" if actions.n_parts == 1 else "attention+mlp",
        choices="tie+freeze" if actions.freeze else "tie",
    )
    assert Actions.of(config) == actions
    seen = Actions.seen(
        make_action_space(config), make_observation_space(config).spaces, actions.n_layer
    )
    # Of a single layer, layerwise and pair are the same.
    assert seen == actions or actions.n_layer == 1


def test_the_cursor_goes_layer_by_layer_and_attention_first():
    def round_trip(actions):
        units = [actions.first()]
        while len(units) < 3 or units[-1] != units[0]:
            units.append(actions.following(units[-1]))
        return [divmod(unit, actions.n_layer)[::-1] for unit in units]

    assert round_trip(Actions("layerwise", 3)) == [(1, 0), (2, 0), (1, 0)]
    expected = [(1, 0), (1, 1), (2, 0), (2, 1), (1, 0)]
    assert round_trip(Actions("layerwise", 3, 2)) == expected
    # Where layers can be frozen, layer 0 has a choice, too.
    assert round_trip(Actions("layerwise", 3, 1, True)) == [(0, 0), (1, 0), (2, 0), (0, 0)]
    assert round_trip(Actions("layerwise", 2, 2, True))[:2] == [(0, 0), (0, 1)]
    assert Actions("pair", 3, 2).first() == Actions("joint", 3, 2).following(0) == 0


def test_the_spaces_are_as_documented():
    sizes = {
        ("layerwise", 1, False): 4,
        ("layerwise", 2, False): 4,
        ("layerwise", 1, True): 5,
        ("pair", 1, False): 10,
        ("pair", 2, False): 20,
        ("pair", 1, True): 14,
        ("pair", 2, True): 28,
    }
    for (kind, n_parts, freeze), n in sizes.items():
        assert Actions(kind, 4, n_parts, freeze).space() == spaces.Discrete(n)
    joint = {(1, False): [2, 3, 4], (2, False): [2, 3, 4] * 2, (1, True): [2, 3, 4, 5]}
    for (n_parts, freeze), nvec in joint.items():
        assert Actions("joint", 4, n_parts, freeze).space().nvec.tolist() == nvec


MIXED = ("a", "b", "a", "b", "a")


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_action_means_ties_within_kinds_and_the_mask_has_each_meaning_once(kind, freeze):
    actions = Actions(kind, 5, freeze=freeze, kinds=MIXED)
    free = Actions(kind, 5, freeze=freeze)
    space, start = actions.space(), np.arange(5)
    space.seed(0)
    for unit in actions.turns if kind == "layerwise" else [0]:
        every = [space.sample() for _ in range(50)] if kind == "joint" else range(space.n)
        meanings = []
        for action in every:
            ties, frozen = actions.ties_of(actions.after(action, start, unit))
            assert all(MIXED[i] == MIXED[target] for i, target in enumerate(ties))
            as_named, _ = free.ties_of(free.after(action, start, unit))
            assert (frozen == free.ties_of(free.after(action, start, unit))[1]).all()
            allowed = [MIXED[i] == MIXED[target] for i, target in enumerate(as_named)]
            assert (ties == as_named)[allowed].all()
            meanings.append((*ties.tolist(), *frozen.tolist()))
        if kind == "layerwise":
            masked = [meanings[a] for a in np.flatnonzero(actions.mask(unit))]
            assert len(set(masked)) == len(masked)
            assert set(masked) == set(meanings)
    assert not np.array_equal(actions.mask(actions.turns[-1]), free.mask(actions.turns[-1]))


def test_the_mask_of_pairs_and_of_all_at_once_leaves_out_other_kinds():
    kinds = ("a", "b", "a")
    pairs = [True, False, True, True, False, True]  # (0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)
    assert Actions("pair", 3, kinds=kinds).mask(0).tolist() == pairs
    frozen = Actions("pair", 3, freeze=True, kinds=kinds)
    assert frozen.mask(0).tolist() == [*pairs, True, True, True]
    assert Actions("joint", 3, kinds=kinds).mask(0).tolist() == pairs[1:]
