"""Schedules: which tie vector holds when."""

from tiegym.policies.scheduled import progressive_split, share_then_unshare, unshare_then_share


def as_lists(plan):
    return [(start, ties.tolist()) for start, ties in plan]


def test_share_then_unshare_unties_all_layers_at_its_share():
    assert as_lists(share_then_unshare(4, 400, 0.1)) == [(0, [0, 0, 0, 0]), (40, [0, 1, 2, 3])]
    assert share_then_unshare(4, 100, 0.07)[1][0] == 7  # though 0.07 * 100 > 7 in floats


def test_unshare_then_share_ties_all_layers_at_its_share():
    assert as_lists(unshare_then_share(4, 400, 0.1)) == [(0, [0, 1, 2, 3]), (40, [0, 0, 0, 0])]


def test_progressive_split_halves_the_largest_group_at_even_intervals():
    assert as_lists(progressive_split(6, 400, 0.5)) == [
        (0, [0, 0, 0, 0, 0, 0]),
        (40, [0, 0, 0, 3, 3, 3]),
        (80, [0, 0, 2, 3, 3, 3]),
        (120, [0, 0, 2, 3, 3, 5]),
        (160, [0, 1, 2, 3, 3, 5]),
        (200, [0, 1, 2, 3, 4, 5]),
    ]


def test_progressive_split_ends_with_the_number_of_groups_asked_for():
    assert as_lists(progressive_split(8, 100, 0.3, until=4)) == [
        (0, [0] * 8),
        (10, [0, 0, 0, 0, 4, 4, 4, 4]),
        (20, [0, 0, 2, 2, 4, 4, 4, 4]),
        (30, [0, 0, 2, 2, 4, 4, 6, 6]),
    ]
    assert as_lists(progressive_split(8, 100, 0.3, until=1)) == [(0, [0] * 8)]
