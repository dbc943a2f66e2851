from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tiegym.analysis.intervals import smallest_difference
from tiegym.bench import power
from tiegym.bench.power import all_pairs, main, pair_deviations, report
from tiegym.bench.ranking import final_losses, sizes
from tiegym.bench.spread import spread
from tiegym.bench.table import load_table


@pytest.fixture(scope="module")
def shipped():
    return load_table("tree-3x2-nested-sum")


def test_deviations_are_those_of_each_pair():
    figures = np.random.default_rng(0).normal(100, 1, (6, 9))
    figures[:, 8] = figures[:, 3]
    found = pair_deviations(figures)
    for i, j in [(0, 1), (5, 2), (8, 7)]:
        assert found[i, j] == pytest.approx((figures[:, i] - figures[:, j]).std(ddof=1))
    assert found[3, 8] == pytest.approx(0, abs=1e-6)  # they never differ
    assert (found == found.T).all()


def test_pairs_have_the_noise_that_is_neither_choice_nor_seed(shipped):
    sharings, equal, ends, _ = all_pairs(shipped)
    for pairs, figures in [
        (sharings, final_losses(shipped)),
        (ends, shipped.losses("val")[:, power._ends(shipped)]),
    ]:
        rest = spread(figures).rest
        assert np.mean(pairs.deviations**2) == pytest.approx(2 * rest**2)
    assert len(sharings.deviations) == 5 * 4 // 2
    assert len(equal.deviations) == 3  # of the three sharings of two layers' weights
    assert (sizes(3) == 2).sum() == 3


def test_ends_of_the_same_training_are_one(shipped):
    losses = shipped.losses("val")[:, shipped.tree.leaves]
    assert len(power._ends(shipped)) == len(np.unique(losses, axis=1).T) < losses.shape[1]
    assert len(all_pairs(shipped)[2].deviations) == 28 * 27 // 2


def test_of_very_many_ends_some_are_drawn(shipped, monkeypatch):
    monkeypatch.setattr(power, "MOST_ENDS", 10)
    drawn = all_pairs(shipped)[2]
    assert drawn.name == "ends of sequences, 10 of 28"
    assert len(drawn.deviations) == 10 * 9 // 2


def test_a_row_says_deviations_times_what_the_test_needs(shipped):
    losses = final_losses(shipped, "test")
    middle = np.median(pair_deviations(losses)[np.triu_indices(5, k=1)])
    text = report(shipped, (3, 12), 0.9, 0.1, comparisons=4, loss="test")
    numbers = [f"{middle * smallest_difference(n, 0.9, 0.025):.4f}" for n in (3, 12)]
    assert f"| fixed sharings | 10 | median | {middle:.4f} | {' | '.join(numbers)} |" in text


def test_the_program_says_it_of_each_table(capsys):
    main(
        ["patterns-6-wikitext-2-sum", "tree-3x2-nested-sum", "--seeds", "10", "--comparisons", "3"]
    )
    said = capsys.readouterr().out
    assert "with power 0.8 at level 0.05 / 3: in nats of validation loss" in said
    patterns, tree = said.split("\n\ntree-3x2-nested-sum, 16 recorded seeds:\n\n")
    assert "| fixed sharings | 20,503 | median | " in patterns
    assert "ends of sequences" not in patterns
    assert "| ends of sequences, equal size | " in tree


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-table"], "table='no-such-table' is unknown"),
        (["tree-3x2-nested-sum", "--seeds", "10", "1"], "seeds=1 are too few"),
        (["tree-3x2-nested-sum", "--power", "1"], "power=1.0 is out of range"),
        (["tree-3x2-nested-sum", "--level", "0"], "level=0.0 is out of range"),
        (["tree-3x2-nested-sum", "--level", "1.5"], "level=1.5 is out of range"),
        (["tree-3x2-nested-sum", "--comparisons", "0"], "comparisons=0 are too few"),
        ([], "name a table or more"),
        (["tree-3x2-nested-sum", "--seeds"], "and numbers of seeds"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_tables_name_steers_no_terminal_and_is_no_markup(shipped, capsys, monkeypatch):
    odd = dataclasses.replace(shipped, name="a|b\x1b[2J<i>")  # read_table lets none through
    monkeypatch.setattr(power, "load_table", lambda name: odd)
    main(["tree-3x2-nested-sum"])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\n\na\\|b\\\\x1b[2J&lt;i&gt;, 16 recorded seeds:\n\n| pairs |" in said


def test_a_table_of_one_seed_has_no_noise(shipped):
    arrays = {key: array[:1] for key, array in shipped.arrays.items()}
    one = dataclasses.replace(shipped, seeds={"train": [0], "held-out": []}, arrays=arrays)
    with pytest.raises(ValueError, match="1 recorded seed: a standard deviation takes at least 2"):
        report(one)
