"""Rows: what belongs in one, and which may be compared."""

import dataclasses
from pathlib import Path

import pytest

from tests.tiegym.analysis.made_up import ENV, make_row, make_run
from tiegym.analysis.rows import check_comparable, main_row, training_differences
from tiegym.analysis.rows import make_row as row_of
from tiegym.runs.input_errors import InputError


def with_episodes(run, *lengths, seed="same"):
    """The run after earlier episodes of so many iterations each, abandoned ones among them."""
    n = len(lengths)
    earlier = [
        run.steps[0] | {"episode": k, "iteration": i}
        for k, length in enumerate(lengths)
        for i in (1, length)
    ]
    final = run.summary["final"] | {"episode": n} | ({} if seed == "same" else {"seed": seed})
    summary = {**run.summary, "final": final, "episodes": [run.summary["final"], final]}
    steps = [*earlier, *({**step, "episode": n} for step in run.steps)]
    return dataclasses.replace(run, steps=steps, summary=summary)


def test_runs_stand_in_the_order_of_their_seeds():
    row = row_of("a", [make_run(seed, seed / 10) for seed in (10, 2, 7)])
    assert row.seeds == [2, 7, 10]
    assert row.final("test_bits_per_byte") == [0.2, 0.7, 1.0]
    assert row.losses == pytest.approx({2: 0.2, 7: 0.7, 10: 1.0})


def test_two_runs_of_one_seed_are_refused():
    again = dataclasses.replace(make_run(0, 1.0), folder=Path("qlearning-seed0-2"))
    message = "two runs of the same seed, 0: qlearning-seed0 and qlearning-seed0-2"
    with pytest.raises(InputError, match=message):
        row_of("a", [make_run(0, 1.0), make_run(1, 1.0), again])


def test_the_seed_is_that_of_the_episode_where_the_options_have_none():
    run = make_run(3, 1.0)
    for options in (None, {}, {"gamma": 0.9}):
        run.config["options"] = options
        assert row_of("a", [run]).seeds == [3]
    del run.config["options"]
    assert row_of("a", [run]).seeds == [3]
    run.summary["final"]["seed"] = None
    with pytest.raises(InputError, match=r"has no seed.*reset\(seed=1\)"):
        row_of("a", [run])


def test_iterations_of_earlier_episodes_count_as_extra():
    once, twice = make_run(0, 1.0), with_episodes(make_run(1, 1.0), 12, 5)
    assert row_of("a", [once]).extra_iterations == 0
    assert row_of("a", [twice]).extra_iterations == 17
    twice.summary["extra_iterations"] = 100
    assert row_of("a", [once, twice]).extra_iterations == 117 / 2


def test_seconds_of_an_iteration_are_the_median_of_all_steps():
    runs = [make_run(0, 1.0), make_run(1, 1.0)]
    for run, seconds in zip(runs, ([9.0, 0.1, 0.2], [0.3, 0.4]), strict=True):
        (step,) = run.steps
        run.steps[:] = [{**step, "seconds_per_iteration": s} for s in seconds]
    row = row_of("a", runs)
    assert row.seconds_per_iteration == 0.3  # one step that something else held up changes nothing


def test_a_later_episode_of_another_seed_is_refused():
    for seed in (None, 5):
        run = with_episodes(make_run(1, 1.0), 12, seed=seed)
        with pytest.raises(InputError, match=f"episode of seed {seed}, but.*--pretrain-runs"):
            row_of("a", [run])


def test_a_run_that_did_not_end_is_refused():
    run = make_run(0, 1.0)
    for summary in (None, {**run.summary, "finished": False}):
        with pytest.raises(InputError, match=r"is not a finished run.*--resume"):
            row_of("a", [dataclasses.replace(run, summary=summary)])


def test_an_episode_of_another_budget_is_refused():
    run = make_run(0, 1.0)
    run.summary["final"]["iteration"] = 7
    with pytest.raises(InputError, match="cut off after 7 of 12 iterations"):
        row_of("a", [run])
    run.summary["final"]["diverged"] = True  # which ends it, too
    assert row_of("a", [run]).diverged == 1
    truncated = make_run(0, 1.0)
    del truncated.summary["final"]["test_perplexity"]
    with pytest.raises(InputError, match="no test perplexity"):
        row_of("a", [truncated])


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
    check_comparable(rows)
    rows[1].runs[1].config["env"][key] = value
    with pytest.raises(InputError, match=f"random_tying-seed1 and .* compared: {key} is {value!r}"):
        check_comparable(rows)


def test_runs_on_different_text_are_not_compared():
    rows = [make_row([1.0]), make_row([2.0], program="random_tying")]
    rows[1].runs[0].config["corpus_sha256"] = "y"
    with pytest.raises(InputError, match="can't be compared: corpus text is 'y'"):
        check_comparable(rows)


def on(device, dtype):
    row = make_row([1.0], dtype=dtype)
    row.runs[0].config["device"] = device
    return row


def test_a_cpu_is_not_compared_with_a_gpu():
    check_comparable([on("cuda", "auto"), on("cuda:1", "auto")])
    with pytest.raises(InputError, match="device is 'cuda'"):
        check_comparable([on("cpu", "float32"), on("cuda:0", "float32")])


def test_the_automatic_dtype_of_a_cpu_is_float32():
    check_comparable([on("cpu", "auto"), on("cpu", "float32")])
    with pytest.raises(InputError, match="dtype is 'float32'"):
        check_comparable([on("cuda", "auto"), on("cuda", "float32")])


def test_training_settings_may_differ_and_are_named_policy_by_policy():
    rows = [
        make_row([1.0], "a", learning_rate=3e-3),
        make_row([1.0], "b", dropout=0.1),
        make_row([1.0], "c", learning_rate=1e-4),
        make_row([1.0], "d", action="pair"),
    ]
    check_comparable(rows)
    assert training_differences(rows) == {
        "learning_rate": {1e-3: ["b", "d"], 3e-3: ["a"], 1e-4: ["c"]},
        "dropout": {0.0: ["a", "c", "d"], 0.1: ["b"]},
    }
    assert training_differences([rows[3], make_row([1.0])]) == {}
    for key in ("learning_rate", "weight_decay", "grad_clip", "dropout", "iters_per_step"):
        other = make_row([1.0], "other", **{key: getattr(ENV, key) + 1})
        assert list(training_differences([rows[3], other])) == [key]
    other = make_row([1.0], "other", tie_grad="sum")
    assert list(training_differences([rows[3], other])) == ["tie_grad"]


def test_a_shallower_transformer_may_have_fewer_layers_and_nothing_else():
    shallow = make_row([1.0, 1.1], "shallow:2", "shallow-2", n_layer=2)
    rows = [shallow, make_row([1.0, 1.1]), make_row([1.0], program="shallow-3", n_layer=3)]
    check_comparable(rows)
    assert main_row(rows) is rows[1]
    rows[0].runs[1].config["env"]["n_embd"] = 8
    with pytest.raises(InputError, match="n_embd is 8"):
        check_comparable(rows)
    with pytest.raises(InputError, match="n_layer is 3"):
        check_comparable([make_row([1.0]), make_row([1.0], "other", n_layer=3)])


@pytest.mark.parametrize("value", [None, "12", [1], float("nan"), {"a": 1}])
@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("final", "iteration"),
        ("final", "val_loss"),
        ("final", "n_independent"),
        ("final", "test_perplexity"),
        ("step", "perplexity"),
        ("step", "episode"),
        ("step", "ties"),
        ("env", "max_iters"),
        ("env", "n_layer"),
    ],
)
def test_what_is_no_number_is_named_with_its_file(place, key, value):
    run = make_run(0, 1.0)
    {"final": run.summary["final"], "step": run.steps[0], "env": run.config["env"]}[place][key] = (
        value
    )
    with pytest.raises(InputError, match=rf"qlearning-seed0.*{key}"):
        row_of("a", [run])


def test_a_perplexity_of_nothing_is_refused():
    run = make_run(0, 1.0)
    run.summary["final"]["test_perplexity"] = 0
    with pytest.raises(InputError, match="must be a positive number"):
        row_of("a", [run])


def test_an_environment_that_measures_no_seconds_has_none():
    row = make_row([1.0, 1.0])
    row.runs[0].steps[0]["seconds_per_iteration"] = None
    assert row.seconds_per_iteration == 0.1
    row.runs[1].steps[0]["seconds_per_iteration"] = None
    assert row.seconds_per_iteration is None


@pytest.mark.parametrize("final", [None, {}])
def test_a_run_without_figures_at_its_end_is_no_record(final):
    run = make_run(0, 1.0)
    run.summary["final"] = final
    run.steps.clear()
    with pytest.raises(InputError, match="no figures at its end"):
        row_of("a", [run])


def test_an_episode_without_a_seed_is_not_taken_for_that_of_the_run():
    run = make_run(0, 1.0)
    del run.summary["final"]["seed"]
    with pytest.raises(InputError, match="episode of seed None, but the run has seed 0"):
        row_of("a", [run])


@pytest.mark.parametrize(("place", "key"), [("env", "n_layer"), ("step", "perplexity")])
def test_an_integer_that_is_no_float_is_no_figure(place, key):
    run = make_run(0, 1.0)
    {"env": run.config["env"], "step": run.steps[0]}[place][key] = 10**400
    with pytest.raises(InputError, match=rf"{key} is 1000"):
        row_of("a", [run])


def test_runs_with_another_tokenizer_of_the_same_name_are_not_compared():
    rows = [make_row([1.0, 1.0]), make_row([1.0, 1.0], "other")]
    rows[0].runs[0].config["tokenizer_sha256"] = "x"
    check_comparable(rows)  # the others are of a version that doesn't say it
    rows[1].runs[1].config["tokenizer_sha256"] = "y"
    with pytest.raises(InputError, match=r"tokenizers are others \(sha256 x and y\)"):
        check_comparable(rows)


def test_runs_of_0_1_are_of_our_own_transformer_and_compare_with_later_ones():
    rows = [make_row([1.0]), make_row([2.0], program="random_tying")]
    for key in ("model", "model_config", "task"):
        del rows[1].runs[0].config["env"][key]
    check_comparable(rows)
    rows[1].runs[0].config["env"]["model"] = "llama"
    with pytest.raises(InputError, match="compared: model is 'llama' in one and 'gpt'"):
        check_comparable(rows)
