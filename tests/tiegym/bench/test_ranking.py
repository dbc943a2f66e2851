from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tiegym.bench.ranking import agreement, by_size, final_losses, main, report, sizes
from tiegym.bench.spread import spread
from tiegym.bench.table import load_table


def test_a_spread_finds_the_parts_that_figures_are_made_of():
    rng = np.random.default_rng(0)
    choices, seeds = rng.normal(0, 3, 400), rng.normal(0, 2, 300)
    found = spread(choices + seeds[:, None] + rng.normal(0, 1, (300, 400)))
    assert found == pytest.approx((choices.std(ddof=1), seeds.std(ddof=1), 1), rel=0.02)


def test_noise_alone_is_no_choice():
    found = spread(np.random.default_rng(1).normal(0, 1, (16, 500)))
    assert found.choices < 0.1
    assert found.rest == pytest.approx(1, rel=0.05)


def test_a_spread_takes_two_of_each():
    with pytest.raises(ValueError, match="1 seeds of 3 choices: a spread takes at least 2"):
        spread(np.zeros((1, 3)))


def test_the_best_of_each_size_is_named(tree_table):
    rows = by_size(tree_table)
    losses = final_losses(tree_table)
    assert [row[1] for row in rows] == ["1", "3", "1"]
    of_two = np.flatnonzero(sizes(3) == 2)
    assert f"{losses[:, of_two].mean(axis=0).min():.4f}" in rows[1]


def test_a_ranking_agrees_with_itself_and_not_with_its_reverse():
    losses = np.random.default_rng(0).normal(size=(2, 203))
    assert agreement(losses, losses, 6) == pytest.approx((1, 1))
    assert agreement(losses, -losses, 6) == pytest.approx((-1, -1))
    noise = np.random.default_rng(1).normal(size=(2, 203))
    assert abs(agreement(losses, noise, 6)[0]) < 0.3


def test_within_sizes_the_number_of_parameters_explains_nothing():
    losses = sizes(6) + np.random.default_rng(0).normal(0, 0.01, (1, 203))
    others = sizes(6) + np.random.default_rng(1).normal(0, 0.01, (1, 203))
    over_all, within = agreement(losses, others, 6)
    assert over_all > 0.8
    assert abs(within) < 0.3


def test_the_program_compares_tables(tree_file, patterns_file, capsys):
    main([str(tree_file), "--other", str(patterns_file)])
    out = capsys.readouterr().out
    assert "| patterns-3-tiny-sum |" in out
    assert "odd against even seeds" in out


def test_a_tables_name_is_no_markup(tree_table):
    other = dataclasses.replace(tree_table, name="a|b\n<i>c</i>")  # read_table lets none through
    assert "| a\\|b &lt;i&gt;c&lt;/i&gt; |" in report(tree_table, [other])


def test_tables_of_other_layers_are_refused(tree_table, patterns_file):
    other = load_table(str(patterns_file))
    facts = {**other.facts, "config": {**other.facts["config"], "n_layer": 5}}
    with pytest.raises(ValueError, match="has 5 layers, but 'tree-3x2-tiny-owner' has 3"):
        report(tree_table, [dataclasses.replace(other, facts=facts)])
