"""The comparison: arms, reuse of runs, the table, what it refuses."""

import csv
import dataclasses
import json
import re

import numpy as np
import pytest
from rich.console import Console

from baselines import report
from baselines.arms import parse_arm, run_missing
from baselines.compare import Options, compare, main
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.records import Run, read_run

ENV = TieConfig(**SMALL)


def make_run(folder, seed, loss, n_independent=2, program="qlearning", protocol="online"):
    config = {
        "program": program,
        "protocol": protocol,
        "options": {"seed": seed},
        "env": dataclasses.asdict(ENV),
        "corpus_sha256": "x",
        "device": "cpu",
    }
    final = {
        "test_perplexity": float(np.exp(loss)),
        "test_bits_per_byte": loss,
        "val_loss": loss,
        "n_independent": n_independent,
        "trainable_params": 10,
        "model_state_bytes": 160,
    }
    return Run(folder, config, [{"seconds_per_iteration": 0.1}], {"final": final})


def row(folder, losses, **kwargs):
    name = kwargs.get("program", "qlearning")
    runs = [make_run(folder / f"{name}{k}", k, loss, **kwargs) for k, loss in enumerate(losses)]
    return report.make_row(name, runs)


def test_better_is_said_only_where_the_intervals_say_so(tmp_path):
    good = row(tmp_path, [1.0, 1.1, 1.2, 1.0, 1.1])
    bad = row(tmp_path, [2.0, 2.1, 2.2, 2.0, 2.1], program="random_tying")
    mixed = row(tmp_path, [1.9, 2.3, 2.1, 2.2, 1.9], program="dqn")
    assert report.against(good, bad).verdict == "better"
    assert report.against(bad, good).verdict == "worse"
    assert report.against(mixed, bad).verdict == "no difference shown"
    single = row(tmp_path, [1.0])
    assert report.against(single, bad).verdict == "one seed: nothing to say"
    three = row(tmp_path, [1.0, 1.1, 1.2])
    assert report.against(three, bad).verdict == "3 seeds: too few to say"


def test_the_best_fixed_pattern_is_chosen_on_validation_among_those_of_equal_size(tmp_path):
    ours = row(tmp_path, [1.0, 1.0], n_independent=2)
    a = row(tmp_path, [3.0, 3.0], program="fixed-cycle:2")
    b = row(tmp_path, [2.0, 2.0], program="fixed-sequence:2")
    large = row(tmp_path, [0.5, 0.5], n_independent=4, program="fixed-independent")
    for run in a.runs:  # the test split must not choose: here it would choose the other
        run.summary["final"]["test_perplexity"] = 0.1
    assert report.best_fixed([ours, a, b, large], ours) is b
    assert report.best_fixed([ours, large], ours) is None


def test_a_policy_is_held_against_those_with_gradients_of_its_own_kind(tmp_path):
    def kind(name, gradient, program, loss):
        made = row(tmp_path, [loss, loss], program=program)
        for run in made.runs:
            run.config["env"]["tie_grad"] = gradient
        return dataclasses.replace(made, policy=name)

    ours = kind("ours", "owner", "qlearning", 1.0)
    rows = [
        kind("random, sum", "sum", "random_tying", 0.5),
        kind("fixed, sum", "sum", "fixed-cycle:2", 0.5),
        kind("random", "owner", "random_tying", 2.0),
        kind("fixed", "owner", "fixed-cycle:2", 2.0),
        ours,
    ]
    figures = report.figures(ours, rows)
    assert (figures["random"], figures["best_fixed"]) == ("random", "fixed")
    assert report.null_model(rows[:2], ours) is None
    assert report.best_fixed(rows[:2], ours) is None


def test_the_table_has_a_row_for_each_policy_and_the_null_model(tmp_path):
    rows = [row(tmp_path, [1.0, 1.1]), row(tmp_path, [2.0, 2.1], program="random_tying")]
    table = [report.figures(r, rows) for r in rows]
    text = report.markdown(table, report.caption(rows))
    assert "2.08 independent layers on average" in text
    assert text.count("\n| qlearning |") == text.count("\n| random_tying |") == 1
    report.write_csv(table, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        assert [line["policy"] for line in csv.DictReader(file)] == ["qlearning", "random_tying"]


@pytest.mark.parametrize("width", [30, 80, 100, 140, 220])
def test_a_terminal_shows_whole_columns_the_important_ones_first(tmp_path, width):
    losses = [1.0, 1.1, 1.2, 1.1]
    name = "dqn --learning-rate 1e-4"
    policy = dataclasses.replace(row(tmp_path, losses), policy=name)
    rows = [policy, row(tmp_path, [2.0, 2.1, 2.0, 2.1], program="random_tying")]
    console = Console(width=width)
    with console.capture() as capture:
        console.print(report.terminal_table([report.figures(entry, rows) for entry in rows], width))
    printed = capture.get()
    assert all(len(line) <= width for line in printed.splitlines())
    assert "…" not in printed
    assert "dqn --learning-rate 1e-4" in printed
    assert ("[2.718, 3.320]" in printed) == (width >= 80)
    assert ("better" in printed) == (width >= 80)
    assert ("online" in printed) == (width >= 100)
    assert ("0.1000" in printed) == (width == 220)  # seconds for an iteration


def test_runs_on_different_text_are_not_compared(tmp_path):
    rows = [row(tmp_path, [1.0]), row(tmp_path, [2.0], program="random_tying")]
    rows[1].runs[0].config["corpus_sha256"] = "y"
    with pytest.raises(ValueError, match="can't be compared: corpus text is 'y'"):
        report.check_comparable(rows)


def test_two_runs_of_one_seed_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two runs of the same seed"):
        report.make_row("a", [make_run(tmp_path, 0, 1.0), make_run(tmp_path, 0, 1.0)])


def test_an_arm_is_a_program_a_pattern_or_a_vector():
    assert parse_arm("random", ENV).module == "baselines.random_tying"
    assert parse_arm("cycle:2", ENV).options.pattern == "cycle:2"
    assert parse_arm("0,0,2,2", ENV).options.pattern == "0,0,2,2"
    assert parse_arm("qlearning --reward-clip 10", ENV).options.reward_clip == 10
    own = parse_arm("random --env.tie-grad sum", ENV)
    assert own.options.env.tie_grad == "sum"
    assert own.options.env.n_layer == ENV.n_layer
    for wrong in ("nonsense", "", "compare", "0,3,0,0", "../x"):
        with pytest.raises(ValueError, match="is no policy"):
            parse_arm(wrong, ENV)


def test_a_folder_belongs_to_one_configuration_and_seed(tmp_path):
    arm = parse_arm("random", ENV)
    other = parse_arm("random", dataclasses.replace(ENV, learning_rate=0.1))
    folders = {a.folder(tmp_path, seed) for a in (arm, other) for seed in (0, 1)}
    assert len(folders) == 4
    assert parse_arm("random", ENV).folder(tmp_path, 0) in folders
    same = parse_arm(f"random --env.batch-size {ENV.batch_size}", ENV)
    assert same.folder(tmp_path, 0) in folders
    assert parse_arm("cycle:2", ENV).folder(tmp_path, 0).name.startswith("fixed-cycle-2-")


def test_compare_runs_what_is_missing_and_reuses_the_rest(tmp_path, capsys):
    options = Options(
        policies=("random", "cycle:2"), seeds=2, runs_dir=tmp_path, workers=2, quiet=True, env=ENV
    )
    rows = compare(options)
    assert [len(r.runs) for r in rows] == [2, 2]
    assert all(len(r.steps) == ENV.steps_per_episode for row in rows for r in row.runs)
    made = {f: (f / "summary.json").stat().st_mtime_ns for f in tmp_path.glob("*-seed*")}
    assert len(made) == 4
    killed = next(iter(sorted(made)))
    (killed / "summary.json").unlink()  # as if it had been cut off
    before = json.loads((tmp_path / "comparison.csv").read_text().count("\n").__str__())
    again = compare(options)
    assert before == 3
    assert capsys.readouterr() == ("", "")
    assert [r.final("test_perplexity") for r in again] == [r.final("test_perplexity") for r in rows]
    for folder, time in made.items():
        assert ((folder / "summary.json").stat().st_mtime_ns == time) == (folder != killed)
    for name in ("comparison.md", "comparison.csv", "comparison.png", "pareto.png", "ties.png"):
        assert (tmp_path / name).stat().st_size > 100


def test_finished_folders_can_be_given(tmp_path, capsys):
    arm = parse_arm("tied", ENV)
    run_missing([arm], [0], tmp_path, workers=1, quiet=True)
    folder = arm.folder(tmp_path, 0)
    main([str(folder), "--runs-dir", str(tmp_path / "out")])
    assert "fixed-tied" in capsys.readouterr().out
    assert read_run(folder).summary is not None


def test_a_comparison_has_lines_of_iterations_where_there_is_no_terminal(tmp_path, capsys):
    arms = [parse_arm("tied", ENV), parse_arm("cycle:2 --total-steps 9", ENV)]
    run_missing(arms, [0], tmp_path, workers=1)
    total = ENV.max_iters + (ENV.max_iters + 3 * ENV.iters_per_step)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 10
    for line in lines:
        assert re.fullmatch(
            rf"2 runs, 1 at a time: \d+/{total} iterations, \d of 2 runs done, [\d:]+ left", line
        )
    assert lines[-1].startswith(f"2 runs, 1 at a time: {total}/{total} iterations, ")


def test_a_failing_run_is_named(tmp_path):
    arm = parse_arm("random --env.corpus synthetic:300", ENV)
    with pytest.raises(RuntimeError, match=r"random.*failed: .*bring a larger corpus"):
        run_missing([arm], [0], tmp_path, workers=1, quiet=True)


def test_the_learning_rate_is_chosen_on_validation(tmp_path):
    options = Options(
        policies=("tied",),
        seeds=1,
        runs_dir=tmp_path,
        lr_grid=(1e-9, 1e-2),
        workers=2,
        quiet=True,
        env=ENV,
    )
    (only,) = compare(options)
    assert only.policy == "tied (lr 0.01)"
    assert only.runs[0].config["env"]["learning_rate"] == 0.01


def test_no_policy_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no policies given"):
        compare(Options(policies=(), runs_dir=tmp_path, env=ENV))
