from __future__ import annotations

import numpy as np
import pytest

from tiegym import ties as tie_vectors
from tiegym.bench.exact import adapting_gains, folds, known, main, price_where_tying_wins
from tiegym.bench.values import path_returns


def by_name(table, price, **options):
    return {k.policy: k for k in known(table, price, **options)}


def test_who_knows_the_seed_is_never_beaten_by_a_sequence(tree_table):
    for price in (0.0, 0.2):
        for split in ("train", "held-out"):
            found = by_name(tree_table, price, split=split)
            for other in ("best sequence", "random", "random-raw"):
                better = found[other].objective - found["clairvoyant"].objective
                assert (better >= -1e-12).all()


def test_the_best_sequence_is_the_best_on_the_train_seeds(tree_table):
    tree, found = tree_table.tree, by_name(tree_table, 0.1, split="train")
    share = (tree.ties == np.arange(3)).mean(axis=1)
    ends = tree_table.losses("val")[tree_table.rows_of("train")] + 0.1 * share
    best = ends[:, tree.leaves].mean(axis=0).min()
    assert found["best sequence"].objective.mean() == pytest.approx(best)


def test_random_tying_is_the_mean_of_what_it_draws(tree_table):
    tree, rng = tree_table.tree, np.random.default_rng(0)
    ends = tree_table.losses("val")[tree_table.rows_of("held-out")]
    draws = []
    for _ in range(4000):
        node = 0
        while tree.children[node, 0] >= 0:
            node = int(tree.children[node, rng.integers(tree.layer[node] + 1)])
        draws.append(ends[0, node])
    expected = by_name(tree_table, 0.0)["random"].objective[0]
    assert np.mean(draws) == pytest.approx(expected, abs=4 * np.std(draws) / 60)


def test_a_random_vector_that_is_kept_is_the_mean_over_all_vectors(tree_table):
    rng = np.random.default_rng(0)
    seed = tree_table.seeds["held-out"][0]
    draws = [
        tree_table.query(tie_vectors.sample(3, rng), seed=seed)["val_loss"] for _ in range(2000)
    ]
    expected = by_name(tree_table, 0.0)["random-fixed"].objective[0]
    assert np.mean(draws) == pytest.approx(expected, abs=4 * np.std(draws) / 40)


def test_patterns_and_shallow_models_are_what_the_table_says(tree_table):
    found = by_name(tree_table, 0.3, loss="test")
    seed = tree_table.seeds["held-out"][0]
    loss = tree_table.query("cycle:2", seed=seed)["test_loss"]
    assert found["cycle:2"].objective[0] == pytest.approx(loss + 0.3 * 2 / 3)
    row = tree_table.row_of(seed)
    shallow = tree_table.arrays["shallow_test"][row, 1, -1]
    assert found["shallow:2"].objective[0] == pytest.approx(shallow + 0.3 * 2 / 3)


def test_from_the_highest_price_on_all_tied_is_the_best_pattern(tree_table):
    price = price_where_tying_wins(tree_table)
    assert by_name(tree_table, price + 1e-6)["best pattern"].chosen == "0,0,0"
    if price > 0:
        assert by_name(tree_table, price - 1e-6)["best pattern"].chosen != "0,0,0"


def test_gains_are_over_the_best_fixed_pattern_of_other_seeds(tree_table):
    gains = adapting_gains(tree_table, 0.0)
    differences = []
    for fold in folds(tree_table):
        found = by_name(fold, 0.0)
        differences += (found["best pattern"].objective - found["clairvoyant"].objective).tolist()
    assert len(differences) == 3
    assert gains.clairvoyant.value == pytest.approx(np.mean(differences))
    assert gains.sequence.value <= gains.clairvoyant.value


def test_folds_hold_out_each_seed_once_with_its_own_figures(tree_table):
    held_out = []
    for fold in folds(tree_table):
        (seed,) = fold.seeds["held-out"]
        held_out.append(seed)
        assert seed not in fold.seeds["train"]
        for asked in fold.all_seeds:
            assert fold.query("cycle:2", seed=asked) == tree_table.query("cycle:2", seed=asked)
    assert sorted(held_out) == sorted(tree_table.all_seeds)


def test_returns_of_delta_ppl_params_rank_as_the_objective(tree_table):
    from tiegym.bench.values import node_rewards

    tree = tree_table.tree
    rewards = node_rewards(tree_table, "delta_ppl_params", 0.2)
    share = (tree.ties == np.arange(3)).mean(axis=1)
    ends = tree_table.losses("val") + 0.2 * share
    sums = [path_returns(tree, rewards, int(leaf))[0] + ends[0, leaf] for leaf in tree.leaves]
    assert np.ptp(sums) < 1e-12


def test_the_program_prints_every_policy(tree_file, capsys):
    main([str(tree_file)])
    out = capsys.readouterr().out
    for name in ("clairvoyant", "best sequence", "best pattern", "random-raw", "shallow:1"):
        assert f"| {name} |" in out


def test_a_table_without_decisions_ends_the_program_with_one_line(patterns_file, capsys):
    with pytest.raises(SystemExit) as stop:
        main([str(patterns_file)])
    assert stop.value.code == 2
    assert "holds fixed sharings" in capsys.readouterr().err
