"""How policies are told apart in pictures."""

import pytest

from tiegym.pictures import kinds
from tiegym.pictures.kinds import kind, looks


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"program": "ppo", "protocol": "online"}, kinds.LEARNING),
        ({"program": "ppo", "protocol": "pretrained"}, kinds.LEARNED_BEFORE),
        ({"program": "dqn", "protocol": "tabulated"}, kinds.LEARNED_BEFORE),
        ({"program": "random_tying", "protocol": "none"}, kinds.RANDOM),
        ({"program": "random_fixed", "protocol": "none"}, kinds.RANDOM),
        ({"program": "random_raw", "protocol": "none"}, kinds.RANDOM),
        ({"program": "fixed", "options": {"pattern": "cycle:2"}}, kinds.PATTERN),
        ({"program": "fixed", "options": {"pattern": "independent"}}, kinds.UNTIED),
        ({"program": "shallow", "options": {"layers": 2}}, kinds.UNTIED),
        ({"program": "progressive-split"}, kinds.SCHEDULE),
        ({"program": "admin-tied", "options": {"pattern": "tied"}}, kinds.PATTERN),
        ({"program": "share-then-unshare"}, kinds.SCHEDULE),
        ({"program": "progressive-freeze-autofreeze"}, kinds.SCHEDULE),
        ({"program": "gradient_split", "options": {"pattern": "tied"}}, kinds.SCHEDULE),
        ({"program": "lookahead", "protocol": "online"}, kinds.SEARCH),
        ({"program": "retrain", "protocol": "pretrained"}, kinds.PATTERN),
        ({"program": "elastic-depth", "protocol": "pretrained"}, kinds.OTHER),
        ({"program": "ladder", "protocol": "pretrained"}, kinds.OTHER),
        ({"program": "norms-only", "protocol": "pretrained"}, kinds.OTHER),
        ({"program": "by-hand"}, kinds.OTHER),
        ({}, kinds.OTHER),
        ({"program": 7, "protocol": [], "options": "text"}, kinds.OTHER),
    ],
)
def test_a_policy_is_of_the_kind_of_what_made_its_runs(config, expected):
    assert kind(config) == expected


def test_few_policies_have_a_colour_each_and_many_that_of_their_kind():
    configs = [{"program": p, "protocol": "online"} for p in ("ppo", "dqn", "random_tying") * 3]
    assert [look.place for look in looks(configs[:8])] == list(range(8))
    many = looks(configs)
    assert {look.kind for look in many} == {kinds.LEARNING, kinds.RANDOM}
    assert len({look.color for look in many}) == 2
    assert len({(look.color, look.number) for look in many}) == 9
