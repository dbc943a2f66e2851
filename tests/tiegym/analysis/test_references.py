"""What each policy is compared with."""

import numpy as np
import pytest

from tests.tiegym.analysis.made_up import make_row, make_run
from tiegym.analysis.references import (
    Reference,
    best_fixed,
    best_shallow,
    compare_with,
    null_model,
    random_fixed,
)
from tiegym.analysis.rows import make_row as row_of


def test_the_best_pattern_is_chosen_on_validation_among_those_of_equal_size():
    ours = make_row([1.0, 1.0], n_independent=2)
    # The test split must not choose: here it would choose the other.
    a = make_row([0.1, 0.1], "a", program="fixed-cycle:2", val_loss=3.0)
    b = make_row([2.0, 2.0], "b", program="fixed-sequence:2", val_loss=2.0)
    large = make_row([0.5, 0.5], "large", n_independent=4, program="fixed-independent")
    assert best_fixed([ours, a, b, large], ours) == ("b", {0: 2.0, 1: 2.0}, 2)
    assert best_fixed([ours, large], ours) is None


@pytest.mark.parametrize(("sizes", "nearest"), [((2, 3), 3), ((3, 4), 4), ((3, 3, 4), 3)])
def test_a_pattern_is_of_equal_size_by_its_parameters_to_the_nearest_layer(sizes, nearest):
    runs = [make_run(seed, 1.0, n_independent=n) for seed, n in enumerate(sizes)]
    ours = row_of("ours", runs)
    patterns = [make_row([1.0], program=f"fixed-{n}", n_independent=n) for n in (2, 3, 4)]
    assert best_fixed([ours, *patterns], ours).policy == f"fixed-{nearest}"


def test_private_parts_count_in_the_size_that_patterns_are_compared_at():
    """A layer has 10 parameters; what is private to all of them, 20 more."""
    runs = [make_run(0, 1.0, n_independent=2, private="lora:4")]
    runs[0].summary["final"]["trainable_params"] += 20
    ours = row_of("ours", runs)
    patterns = [make_row([1.0], program=f"fixed-{n}", n_independent=n) for n in (1, 2, 3, 4)]
    assert best_fixed([*patterns, ours], ours).policy == "fixed-4"


def test_a_shallow_transformer_is_compared_with_the_pattern_of_its_parameters():
    shallow = make_row([1.0], "shallow:2", "shallow-2", n_layer=2)
    patterns = [make_row([1.0], program=f"fixed-{n}", n_independent=n) for n in (1, 2, 4)]
    assert best_fixed([*patterns, shallow], shallow).policy == "fixed-2"


def test_what_else_the_parameters_buy_is_the_best_untied_transformer_of_the_size():
    ours = make_row([1.0, 1.0], n_independent=2, tie_grad="owner")
    two = make_row([1.5, 1.5], "shallow:2", "shallow-2", n_layer=2, tie_grad="sum")
    again = make_row([0.5, 0.5], "again", "shallow-2", n_layer=2, val_loss=3.0)
    three = make_row([0.1, 0.1], "shallow:3", "shallow-3", n_layer=3, n_independent=3)
    pattern = make_row([0.1, 0.1], "cycle:2", "fixed-cycle:2")
    assert best_shallow([ours, two, again, three, pattern], ours) == (
        "shallow:2",
        {0: 1.5, 1: 1.5},
        2,
    )
    assert best_shallow([ours, three, pattern], ours) is None
    assert best_shallow([two, three, pattern], two) is None


def test_the_best_of_several_patterns_must_be_better_by_more_than_one_alone():
    ours = make_row([1.0, 1.04, 1.08, 1.0], "ours")
    pattern = make_row([0.9, 1.0, 1.0, 0.93], "cycle:2", "fixed-cycle:2")
    alone = compare_with(ours, best_fixed([ours, pattern], ours))
    assert alone.verdict == "worse"
    others = [make_row([1.5] * 4, str(k), f"fixed-{k}") for k in range(9)]
    chosen = compare_with(ours, best_fixed([ours, pattern, *others], ours))
    assert chosen.verdict == "no difference shown"
    assert chosen.difference.p_value == pytest.approx(10 * alone.difference.p_value)
    assert chosen.difference.low < 0 < alone.difference.low
    assert chosen.difference.high == alone.difference.high
    # Nothing is taken away from a policy that is better than the best of them.
    better = make_row([0.8, 0.9, 0.9, 0.83], "better")
    for rows in ([better, pattern], [better, pattern, *others]):
        assert compare_with(better, best_fixed(rows, better)).verdict == "better"


def test_a_policy_that_equals_every_pattern_is_seldom_worse_than_the_best():
    """Without a correction the best of twelve makes it worse in 12 % of the cases."""
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(400):
        seeds = rng.normal(size=5)  # what all runs of a seed have in common
        losses = 20 + seeds[None] + rng.normal(size=(13, 5)) * 0.5
        validation = losses + rng.normal(size=(13, 5)) * 0.1
        rows = [
            row_of(
                str(k),
                [
                    make_run(s, losses[k, s] / 10, f"fixed-{k}" if k else "a", val_loss=float(v))
                    for s, v in enumerate(validation[k])
                ],
            )
            for k in range(13)
        ]
        verdicts.append(compare_with(rows[0], best_fixed(rows, rows[0])).verdict)
    assert verdicts.count("worse") / len(verdicts) <= 0.05
    assert verdicts.count("better") / len(verdicts) <= 0.05
    assert "worse" in verdicts


def test_a_policy_is_compared_with_those_with_gradients_of_its_own_kind():
    ours = make_row([1.0, 1.0], "ours")
    rows = [
        make_row([0.5, 0.5], "random, sum", "random_tying", tie_grad="sum"),
        make_row([0.5, 0.5], "drawn, sum", "random_fixed", tie_grad="sum"),
        make_row([0.5, 0.5], "fixed, sum", "fixed-cycle:2", tie_grad="sum"),
        make_row([2.0, 2.0], "random", "random_tying"),
        make_row([2.0, 2.0], "drawn", "random_fixed"),
        make_row([2.0, 2.0], "fixed", "fixed-cycle:2"),
        ours,
    ]
    found = [find(rows, ours).policy for find in (null_model, random_fixed, best_fixed)]
    assert found == ["random", "drawn", "fixed"]
    for find in (null_model, random_fixed, best_fixed):
        assert find(rows[:3], ours) is None


def test_the_null_models_are_those_that_were_trained_most_alike():
    """Not the first or the best of several with other private parts."""
    ours = make_row([1.0, 1.0], "ours", private="norms", lr_decay="cosine", learning_rate=3e-4)
    for program, find in (("random_tying", null_model), ("random_fixed", random_fixed)):
        rows = [
            make_row([0.5, 0.5], "plain", program),
            make_row([2.0, 2.0], "norms", program, private="norms"),
            make_row([2.0, 2.0], "both", program, private="norms", lr_decay="cosine"),
            make_row([0.4, 0.4], "more", program, private="norms+lora:4", lr_decay="cosine"),
        ]
        for k, nearest in ((4, "both"), (2, "norms"), (1, "plain")):
            assert find([*rows[:k], ours], ours).policy == nearest


def test_a_pattern_that_began_trained_is_none_for_who_did_not():
    ours = make_row([1.0, 1.0], "ours", n_independent=2)
    drawn = make_row([2.0, 2.0], "cycle:2", "fixed-cycle:2", n_independent=2)
    begun = "runs/a/model.safetensors"
    trained = make_row(
        [0.5, 0.5], "trained", "fixed-cycle:2", n_independent=2, initial_weights=begun
    )
    one = make_row([1.5, 1.5], "tied", "fixed-tied", n_independent=1)
    rows = [ours, drawn, trained, one]
    assert best_fixed(rows, ours).policy == "cycle:2"
    ours = make_row([1.0, 1.0], "ours", n_independent=2, initial_weights="another")
    assert best_fixed([ours, *rows[1:]], ours).policy == "trained"


def test_the_null_model_begins_with_the_same_ties():
    tied = make_row([1.0, 1.0], "random", "random_tying", initial_ties="tied")
    untied = make_row([2.0, 2.0], "untied", "random_tying", initial_ties="independent")
    for begin, nearest in (("tied", "random"), ("independent", "untied")):
        ours = make_row([1.0, 1.0], "ours", initial_ties=begin)
        assert null_model([untied, tied, ours], ours).policy == nearest
    kind = {"initial_ties": "independent", "learning_rate": 0.02}
    plain = make_row([1.0, 1.0], "plain", "random_tying", **kind)
    norms = make_row([2.0, 2.0], "norms", "random_tying", private="norms", learning_rate=0.01)
    ours = make_row([1.0, 1.0], "ours", private="norms", **kind)
    assert null_model([plain, norms, ours], ours).policy == "norms"


def test_a_rate_that_was_chosen_for_a_null_model_does_not_choose_it():
    ours = make_row([1.0, 1.0], "ours", private="norms", learning_rate=0.02)
    plain = make_row([0.5, 0.5], "plain", "random_tying", learning_rate=0.02)
    norms = [
        make_row([2.0, 2.0], f"norms {rate}", "random_tying", private="norms", learning_rate=rate)
        for rate in (0.01, 0.02)
    ]
    assert null_model([plain, norms[0], ours], ours).policy == "norms 0.01"
    assert null_model([plain, *norms, ours], ours).policy == "norms 0.02"


MASKED = make_row([2.0, 2.0], "random", "random_tying")
RAW = make_row([2.0, 2.0], "random-raw", "random_raw")


@pytest.mark.parametrize("program", ["dqn", "ppo", "recurrent_ppo", "random_raw"])
def test_an_agent_that_draws_raw_actions_has_the_null_model_that_does(program):
    ours = make_row([1.0, 1.0], program=program)
    ours.runs[0].steps[0]["action"] = 3 if program == "random_raw" else 0
    assert null_model([MASKED, RAW, ours], ours).policy == "random-raw"
    assert null_model([MASKED, ours], ours).policy == "random"
    assert null_model([ours], ours) is None


@pytest.mark.parametrize("program", ["maskable_ppo", "qlearning", "pairwise", "random_fixed"])
def test_an_agent_that_knows_which_actions_differ_has_random_tying(program):
    ours = make_row([1.0, 1.0], program=program)
    assert null_model([RAW, MASKED, ours], ours).policy == "random"
    assert null_model([RAW, ours], ours) is None
    for action in ("pair", "joint"):
        ours = make_row([1.0, 1.0], program="ppo", action=action)
        assert null_model([RAW, MASKED, ours], ours).policy == "random"


@pytest.mark.parametrize("best", [0.5, 1.5])
def test_a_null_model_of_the_same_actions_comes_first_whichever_did_better(best):
    ours = make_row([1.0], program="pairwise", action="pair")
    layerwise = make_row([best], "random", "random_tying")
    pairs = make_row([1.0], "random --env.action pair", "random_tying", action="pair")
    for rows in ([ours, layerwise, pairs], [pairs, layerwise, ours]):
        assert null_model(rows, ours).policy == "random --env.action pair"


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_null_models_that_are_as_near_the_one_that_did_better_is_not_taken(first):
    ours = make_row([1.0], program="qlearning")
    both = [make_row([loss], f"{loss}", "random_tying") for loss in (0.5, 0.7)]
    assert null_model([both[first], ours, both[1 - first]], ours).policy == "0.5"
    better = [make_row([loss], f"{1 - loss}", "random_tying") for loss in (0.5, 0.7)]
    assert null_model([*better, ours], ours).policy == f"{1 - 0.7}"


@pytest.mark.parametrize(
    "other",
    [
        {"embeddings": "frozen", "n_independent": 1, "trainable_params": 10},
        {"tie_parts": "attention+mlp", "n_independent": 8, "trainable_params": 140},
        {"choices": "tie+freeze", "n_independent": 1, "trainable_params": 0},
    ],
)
def test_what_a_layer_adds_is_told_by_runs_of_the_same_kind(other):
    """A layer has 10 parameters, all else 100: who has 123 is of the size of two."""
    n_independent, parameters = other.pop("n_independent"), other.pop("trainable_params")
    patterns = [make_row([1.0], f"{n}", f"fixed-{n}", n_independent=n) for n in (1, 2, 3, 4)]
    ours = make_row([1.0], n_independent=2)
    run = make_run(0, 1.0, "fixed-added", n_independent=n_independent, **other)
    run.steps[0]["ties"] = [*range(4)] * (2 if "tie_parts" in other else 1)
    added = row_of("added", [run])
    for row, value in [*((r, 100 + 10 * r.mean("n_independent")) for r in patterns), (ours, 123)]:
        row.runs[0].summary["final"]["trainable_params"] = value
    added.runs[0].summary["final"]["trainable_params"] = parameters
    assert best_fixed([*patterns, ours], ours)[::2] == ("2", 1)
    assert best_fixed([*patterns, ours, added], ours)[::2] == ("2", 1)


def sized(row, size):
    for run in row.runs:
        run.config["options"]["size"] = size
    return row


@pytest.mark.parametrize("program", ["retrain-qlearning", "evolution"])
def test_ties_that_were_found_before_and_are_kept_are_compared_with_a_draw_that_is_kept(program):
    ours = make_row([1.0, 1.0], program=program)
    drawn = make_row([2.0, 2.0], "drawn", "random_fixed")
    assert null_model([MASKED, drawn, ours], ours).policy == "drawn"
    assert null_model([MASKED, ours], ours).policy == "random"


def test_who_chooses_once_is_compared_with_a_draw_of_its_size_that_is_kept():
    ours = sized(make_row([1.0, 1.0], program="surrogate"), 2)
    drawn = sized(make_row([2.0, 2.0], "drawn", "random_fixed"), None)
    two = sized(make_row([2.0, 2.0], "drawn, 2", "random_fixed"), 2)
    three = sized(make_row([2.0, 2.0], "drawn, 3", "random_fixed"), 3)
    rows = [MASKED, two, three, drawn, ours]
    assert null_model(rows, ours).policy == "drawn, 2"
    assert null_model(rows, sized(ours, None)).policy == "drawn"
    assert null_model(rows, sized(ours, 4)).policy == "random"
    assert null_model(rows, drawn).policy == "random"
    # Draws of a size are no reference of those that have none.
    assert random_fixed(rows, make_row([1.0, 1.0])).policy == "drawn"
    assert random_fixed([two, three], make_row([1.0, 1.0])) is None


def test_an_agent_of_ones_own_shows_by_its_actions_what_it_draws_from():
    ours = make_row([1.0, 1.0], program="own")
    step = ours.runs[1].steps[0]
    # four layers: the cursor is at 1, 2, 3, 1
    ours.runs[1].steps[:] = [step | {"action": a, "iteration": a} for a in (1, 2, 3, 1)]
    assert null_model([RAW, MASKED, ours], ours).policy == "random"
    ours.runs[1].steps[3]["action"] = 2
    assert null_model([RAW, MASKED, ours], ours).policy == "random-raw"
    ours.runs[1].steps[3]["episode"] = 1  # another episode begins at layer 1, too
    assert null_model([RAW, MASKED, ours], ours).policy == "random-raw"


def test_policies_are_compared_on_loss_by_seed():
    ours, theirs = make_row([1.0, 2.0, 3.0, 4.0, 9.0]), make_row([1.1, 2.2, 3.1, 4.2])
    compared = compare_with(ours, Reference("theirs", theirs.losses))
    assert compared.seeds == 4
    assert compared.difference.value == pytest.approx(-0.15)
    assert ours.perplexity == pytest.approx((2.718**2 + 2.718**3 + 2.718**4) / 3, 1e-2)
