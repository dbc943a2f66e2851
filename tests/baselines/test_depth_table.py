"""The table of what depth is worth, against differences by hand."""

import numpy as np
import pytest
from scipy.stats import t

from baselines import depth_table
from tests.tiegym.analysis.made_up import make_row


def test_losses_are_held_beside_all_layers_untied_seed_by_seed():
    whole = make_row([2.0, 2.2, 2.1, 2.4], "independent (lr 0.01)", "fixed", n_independent=4)
    fewer = make_row([2.5, 2.6, 2.8, 2.9], "shallow:1 (lr 0.005)", "shallow", n_independent=1)
    text = depth_table.markdown([fewer, whole])
    caption, _, table = text.partition("\n\n")
    assert caption.startswith("4 layers, width ")
    assert caption.endswith("4 seeds.")  # nothing of tests that it doesn't show
    assert table.startswith("| transformer | trainable parameters |")
    first, second = ([c.strip() for c in line.split("|")[1:-1]] for line in text.splitlines()[4:])
    assert (first[0], first[4]) == ("independent (lr 0.01)", "")
    ours, theirs = np.array(list(fewer.losses.values())), np.array(list(whole.losses.values()))
    difference, at = ours - theirs, t.ppf(0.975, 3)
    half = at * difference.std(ddof=1) / 2
    low, high = (difference.mean() + sign * half for sign in (-1, 1))
    assert second[0] == "shallow:1 (lr 0.005)"
    assert float(second[2]) == pytest.approx(ours.mean(), abs=1e-4)
    assert float(second[3]) == pytest.approx(ours.std(ddof=1), abs=1e-4)
    assert second[4] == f"{difference.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


def test_one_seed_has_no_spread():
    whole = make_row([2.0], "independent", "fixed", n_independent=4)
    text = depth_table.markdown([whole, make_row([2.5], "tied", "fixed")])
    assert [line.split(" | ")[3:] for line in text.splitlines()[4:]] == [["", " |"], ["", " |"]]
