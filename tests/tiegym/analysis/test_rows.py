"""Rows: what belongs in one, which may be compared, and what each is held against."""

import dataclasses

import pytest

from tests.tiegym.analysis.made_up import ENV, make_row, make_run
from tiegym.analysis import rows as report
from tiegym.runs.input_errors import InputError


def with_episodes(run, *lengths, seed="same"):
    """The run after earlier episodes of so many iterations each, abandoned ones among them."""
    n = len(lengths)
    earlier = [
        {"episode": k, "iteration": i, "seconds_per_iteration": 0.1}
        for k, length in enumerate(lengths)
        for i in (1, length)
    ]
    final = run.summary["final"] | {"episode": n} | ({} if seed == "same" else {"seed": seed})
    summary = {**run.summary, "final": final, "episodes": [run.summary["final"], final]}
    steps = [*earlier, *({**step, "episode": n} for step in run.steps)]
    return dataclasses.replace(run, steps=steps, summary=summary)


def test_runs_stand_in_the_order_of_their_seeds():
    row = report.make_row("a", [make_run(seed, seed / 10) for seed in (10, 2, 7)])
    assert row.seeds == [2, 7, 10]
    assert row.final("test_bits_per_byte") == [0.2, 0.7, 1.0]
    assert row.losses == pytest.approx({2: 0.2, 7: 0.7, 10: 1.0})


def test_two_runs_of_one_seed_are_refused():
    with pytest.raises(InputError, match="two runs of the same seed"):
        report.make_row("a", [make_run(0, 1.0), make_run(0, 1.0)])


def test_the_seed_is_that_of_the_episode_where_the_options_have_none():
    run = make_run(3, 1.0)
    for options in (None, {}, {"gamma": 0.9}):
        run.config["options"] = options
        assert report.make_row("a", [run]).seeds == [3]
    del run.config["options"]
    assert report.make_row("a", [run]).seeds == [3]
    run.summary["final"]["seed"] = None
    with pytest.raises(InputError, match=r"has no seed.*reset\(seed=1\)"):
        report.make_row("a", [run])


def test_iterations_of_earlier_episodes_count_as_extra():
    once, twice = make_run(0, 1.0), with_episodes(make_run(1, 1.0), 12, 5)
    assert report.make_row("a", [once]).extra_iterations == 0
    assert report.make_row("a", [twice]).extra_iterations == 17
    twice.summary["extra_iterations"] = 100
    assert report.make_row("a", [once, twice]).extra_iterations == 117 / 2


def test_seconds_of_an_iteration_are_the_median_of_all_steps():
    runs = [make_run(0, 1.0), make_run(1, 1.0)]
    for run, seconds in zip(runs, ([9.0, 0.1, 0.2], [0.3, 0.4]), strict=True):
        (step,) = run.steps
        run.steps[:] = [{**step, "seconds_per_iteration": s} for s in seconds]
    row = report.make_row("a", runs)
    assert row.seconds_per_iteration == 0.3  # one step that something else held up changes nothing


def test_a_later_episode_of_another_seed_is_refused():
    for seed in (None, 5):
        run = with_episodes(make_run(1, 1.0), 12, seed=seed)
        with pytest.raises(InputError, match=f"episode of seed {seed}, but.*--pretrain-runs"):
            report.make_row("a", [run])


def test_a_run_that_did_not_end_is_refused():
    run = make_run(0, 1.0)
    for summary in (None, {**run.summary, "finished": False}):
        with pytest.raises(InputError, match=r"is not a finished run.*--resume"):
            report.make_row("a", [dataclasses.replace(run, summary=summary)])


def test_an_episode_of_another_budget_is_refused():
    run = make_run(0, 1.0)
    run.summary["final"]["iteration"] = 7
    with pytest.raises(InputError, match="cut off after 7 of 12 iterations"):
        report.make_row("a", [run])
    run.summary["final"]["diverged"] = True  # which ends it, too
    assert report.make_row("a", [run]).diverged == 1
    truncated = make_run(0, 1.0)
    del truncated.summary["final"]["test_perplexity"]
    with pytest.raises(InputError, match="no test perplexity"):
        report.make_row("a", [truncated])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_layer", 5),
        ("n_head", 1),
        ("n_embd", 8),
        ("block_size", 8),
        ("batch_size", 3),
        ("max_iters", 13),
        ("tokenizer", "bpe-300"),
        ("test_tokens", None),
        ("eval_batches", 3),
        ("divergence_loss", 19.0),
        ("dtype", "bfloat16-mixed"),
    ],
)
def test_runs_that_were_measured_otherwise_are_not_compared(key, value):
    rows = [make_row([1.0]), make_row([2.0, 2.0], program="random_tying")]
    report.check_comparable(rows)
    rows[1].runs[1].config["env"][key] = value
    with pytest.raises(InputError, match=f"random_tying-seed1 and .* compared: {key} is {value!r}"):
        report.check_comparable(rows)


def test_runs_on_different_text_are_not_compared():
    rows = [make_row([1.0]), make_row([2.0], program="random_tying")]
    rows[1].runs[0].config["corpus_sha256"] = "y"
    with pytest.raises(InputError, match="can't be compared: corpus text is 'y'"):
        report.check_comparable(rows)


def on(device, dtype):
    row = make_row([1.0], dtype=dtype)
    row.runs[0].config["device"] = device
    return row


def test_a_cpu_is_not_compared_with_a_gpu():
    report.check_comparable([on("cuda", "auto"), on("cuda:1", "auto")])
    with pytest.raises(InputError, match="device is 'cuda'"):
        report.check_comparable([on("cpu", "float32"), on("cuda:0", "float32")])


def test_the_automatic_dtype_of_a_cpu_is_float32():
    report.check_comparable([on("cpu", "auto"), on("cpu", "float32")])
    with pytest.raises(InputError, match="dtype is 'float32'"):
        report.check_comparable([on("cuda", "auto"), on("cuda", "float32")])


def test_training_settings_may_differ_and_are_named_policy_by_policy():
    rows = [
        make_row([1.0], "a", learning_rate=3e-3),
        make_row([1.0], "b", dropout=0.1),
        make_row([1.0], "c", learning_rate=1e-4),
        make_row([1.0], "d", action="pair"),
    ]
    report.check_comparable(rows)
    assert report.training_differences(rows) == {
        "learning_rate": {1e-3: ["b", "d"], 3e-3: ["a"], 1e-4: ["c"]},
        "dropout": {0.0: ["a", "c", "d"], 0.1: ["b"]},
    }
    assert report.training_differences([rows[3], make_row([1.0])]) == {}
    for key in ("learning_rate", "weight_decay", "grad_clip", "dropout", "iters_per_step"):
        other = make_row([1.0], "other", **{key: getattr(ENV, key) + 1})
        assert list(report.training_differences([rows[3], other])) == [key]
    other = make_row([1.0], "other", tie_grad="sum")
    assert list(report.training_differences([rows[3], other])) == ["tie_grad"]


def test_the_best_fixed_pattern_is_chosen_on_validation_among_those_of_equal_size():
    ours = make_row([1.0, 1.0], n_independent=2)
    # The test split must not choose: here it would choose the other.
    a = make_row([0.1, 0.1], program="fixed-cycle:2", val_loss=3.0)
    b = make_row([2.0, 2.0], program="fixed-sequence:2", val_loss=2.0)
    large = make_row([0.5, 0.5], n_independent=4, program="fixed-independent")
    assert report.best_fixed([ours, a, b, large], ours) is b
    assert report.best_fixed([ours, large], ours) is None


@pytest.mark.parametrize(("sizes", "nearest"), [((2, 3), 3), ((3, 4), 4), ((3, 3, 4), 3)])
def test_a_pattern_is_of_equal_size_with_the_mean_rounded(sizes, nearest):
    runs = [make_run(seed, 1.0, n_independent=n) for seed, n in enumerate(sizes)]
    ours = report.make_row("ours", runs)
    patterns = [make_row([1.0], program=f"fixed-{n}", n_independent=n) for n in (2, 3, 4)]
    assert report.best_fixed([ours, *patterns], ours).policy == f"fixed-{nearest}"


def test_a_policy_is_held_against_those_with_gradients_of_its_own_kind():
    ours = make_row([1.0, 1.0], "ours")
    rows = [
        make_row([0.5, 0.5], "random, sum", "random_tying", tie_grad="sum"),
        make_row([0.5, 0.5], "fixed, sum", "fixed-cycle:2", tie_grad="sum"),
        make_row([2.0, 2.0], "random", "random_tying"),
        make_row([2.0, 2.0], "fixed", "fixed-cycle:2"),
        ours,
    ]
    assert report.null_model(rows, ours).policy == "random"
    assert report.best_fixed(rows, ours).policy == "fixed"
    assert report.null_model(rows[:2], ours) is None
    assert report.best_fixed(rows[:2], ours) is None


def test_policies_are_compared_on_loss_by_seed():
    ours, theirs = make_row([1.0, 2.0, 3.0, 4.0, 9.0]), make_row([1.1, 2.2, 3.1, 4.2])
    compared = report.against(ours, theirs)
    assert compared.seeds == 4
    assert compared.difference.value == pytest.approx(-0.15)
    assert ours.perplexity == pytest.approx((2.718**2 + 2.718**3 + 2.718**4) / 3, 1e-2)
