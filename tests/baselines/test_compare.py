"""The comparison: policies, reuse of runs, runs that are given, what it refuses."""

import dataclasses
import re

import gymnasium
import pytest

import tiegym
from baselines import compare as program
from baselines import random_tying
from baselines.compare import Options, compare, main, tune
from baselines.policies import parse_policy
from baselines.running import run_missing
from baselines.running_options import RunningOptions
from tests.tiegym.analysis.made_up import ENV, make_row, make_run
from tests.tiegym.small import SMALL
from tiegym.analysis.comparison import given_rows, judge, show, write
from tiegym.analysis.rows import make_row as row_of
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run


def test_a_folder_belongs_to_one_configuration_and_seed(tmp_path):
    policy = parse_policy("random", ENV)
    other = parse_policy("random", dataclasses.replace(ENV, learning_rate=0.1))
    folders = {a.folder(tmp_path, seed) for a in (policy, other) for seed in (0, 1)}
    assert len(folders) == 4
    assert parse_policy("random", ENV).folder(tmp_path, 0) in folders
    same = parse_policy(f"random --env.batch-size {ENV.batch_size}", ENV)
    assert same.folder(tmp_path, 0) in folders
    assert parse_policy("cycle:2", ENV).folder(tmp_path, 0).name.startswith("fixed-cycle-2-")


def test_compare_runs_what_is_missing_and_reuses_the_rest(tmp_path, capsys, in_process):
    options = Options(
        policies=("random", "cycle:2"), seeds=2, runs_dir=tmp_path, workers=2, quiet=True, env=ENV
    )
    rows = compare(options).rows
    assert [len(r.runs) for r in rows] == [2, 2]
    assert all(len(r.steps) == ENV.steps_per_episode for row in rows for r in row.runs)
    made = {f: (f / "summary.json").stat().st_mtime_ns for f in tmp_path.glob("*-seed*")}
    assert len(made) == 4
    killed = next(iter(sorted(made)))
    (killed / "summary.json").unlink()  # as if it had been cut off
    before = (tmp_path / "comparison.csv").read_text().count("\n")
    again = compare(options).rows
    assert before == 3
    assert capsys.readouterr() == ("", "")
    assert [r.final("test_perplexity") for r in again] == [r.final("test_perplexity") for r in rows]
    for folder, time in made.items():
        assert ((folder / "summary.json").stat().st_mtime_ns == time) == (folder != killed)
    for name in ("comparison.md", "comparison.csv", "comparison.png", "pareto.png", "ties.png"):
        assert (tmp_path / name).stat().st_size > 100


def test_finished_folders_can_be_given(tmp_path, capsys, in_process):
    policy = parse_policy("tied", ENV)
    run_missing([policy], [0], RunningOptions(tmp_path, quiet=True))
    folder = policy.folder(tmp_path, 0)
    for given in (folder, tmp_path):  # the run, and a folder of runs
        main([str(given), "--runs-dir", str(tmp_path / "out")])
        assert "tied" in capsys.readouterr().out
    assert read_run(folder).summary is not None


def test_a_comparison_has_lines_of_iterations_where_there_is_no_terminal(
    tmp_path, capsys, in_process
):
    policies = [parse_policy("tied", ENV), parse_policy("cycle:2 --total-steps 9", ENV)]
    run_missing(policies, [0], RunningOptions(tmp_path, workers=1))
    total = ENV.max_iters + (ENV.max_iters + 3 * ENV.iters_per_step)
    lines = capsys.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 10
    for line in lines:
        assert re.fullmatch(
            rf"2 runs, 1 at a time: \d+/{total} iterations, \d of 2 runs done, [\d:]+ left", line
        )
    assert lines[-1].startswith(f"2 runs, 1 at a time: {total}/{total} iterations, ")


def test_the_learning_rate_of_the_grid_is_the_tables(tmp_path, in_process):
    options = Options(
        policies=("tied",),
        seeds=1,
        runs_dir=tmp_path,
        lr_grid=(1e-9, 1e-2),
        workers=2,
        quiet=True,
        env=ENV,
    )
    (only,) = compare(options).rows
    assert only.policy == "tied (lr 0.01)"
    assert only.runs[0].config["env"]["learning_rate"] == 0.01


def test_the_learning_rate_is_chosen_on_validation_over_other_seeds(tmp_path, monkeypatch):
    ran = []

    def pretend_to_run(policies, seeds, options):
        runs_dir = options.runs_dir
        for policy in policies:
            for seed in seeds:
                rate = policy.options.env.learning_rate
                loss = {0.1: (3.0, 1.0), 0.2: (2.0, 2.0), 0.3: (1.0, 3.0)}[rate]
                ran.append(
                    (policy.folder(runs_dir, seed), make_run(seed, loss[0], val_loss=loss[1]))
                )

    monkeypatch.setattr(program, "run_missing", pretend_to_run)
    monkeypatch.setattr(program, "read_run", lambda folder: dict(ran)[folder])
    options = Options(policies=(), runs_dir=tmp_path, lr_grid=(0.3, 0.1, 0.2), env=ENV)
    (best,) = tune([parse_policy("tied", ENV)], options.lr_grid, options)
    assert best.options.env.learning_rate == 0.1
    assert {seed for _, run in ran for seed in [run.config["options"]["seed"]]}.isdisjoint(
        range(1000)
    )


def random_folder(tmp_path, seed, **env):
    options = random_tying.Options(
        seed=seed, runs_dir=tmp_path, quiet=True, env=dataclasses.replace(ENV, **env)
    )
    return random_tying.train(options)


def test_given_runs_are_put_together_by_program_and_settings(tmp_path):
    folders = [random_folder(tmp_path, seed) for seed in (1, 0)]
    folders += [random_folder(tmp_path, seed, learning_rate=0.1) for seed in (2, 0)]
    rows = {row.policy: row.seeds for row in given_rows(folders)}
    assert rows == {
        "random (learning_rate=0.001)": [0, 1],
        "random (learning_rate=0.1)": [0, 2],
    }


def test_a_policy_that_is_run_is_told_from_a_given_one_of_its_name(tmp_path, in_process):
    folder = random_folder(tmp_path, 0)
    options = Options(
        policies=(str(folder), "random", "random_tying"),
        seeds=1,
        runs_dir=tmp_path / "out",
        quiet=True,
        env=ENV,
    )
    rows = compare(options).rows
    assert {row.policy for row in rows} == {"random", "random (run here)"}


def test_whatever_steps_the_environment_can_be_compared(tmp_path, capsys):
    env = gymnasium.make("TieEnv-v0", **SMALL)
    env = tiegym.RecordRun(env, tmp_path / "own", {})  # no program, no options
    env.reset(seed=4)
    while not env.step(0)[2]:
        pass
    env.close()
    main([str(tmp_path / "own"), "--runs-dir", str(tmp_path / "out")])
    assert "own" in capsys.readouterr().out
    (row,) = given_rows([tmp_path / "own"])
    assert row.seeds == [4]


def test_a_budget_of_its_own_is_refused_before_anything_runs(tmp_path):
    for steps in (2 * ENV.steps_per_episode, 1):
        policies = ("tied", f"random --total-steps {steps}")
        with pytest.raises(InputError, match=rf"would take {steps} .*--pretrain-runs"):
            compare(Options(policies=policies, runs_dir=tmp_path, env=ENV))
    assert list(tmp_path.iterdir()) == []


def test_a_given_run_of_several_episodes_is_refused(tmp_path, capsys):
    options = random_tying.Options(
        runs_dir=tmp_path, quiet=True, env=ENV, total_steps=2 * ENV.steps_per_episode
    )
    folder = random_tying.train(options)
    with pytest.raises(SystemExit, match="2"):
        main([str(folder), "--runs-dir", str(tmp_path / "out")])
    assert "reports an episode of seed None, but the run has seed 0" in capsys.readouterr().err


def test_damaged_runs_are_an_error_in_one_line(tmp_path, capsys):
    folder = random_folder(tmp_path, 0)
    (folder / "summary.json").write_text("{")
    with pytest.raises(SystemExit, match="2"):
        main([str(folder), "--runs-dir", str(tmp_path / "out")])
    assert "summary.json is damaged" in capsys.readouterr().err


def test_rows_stand_in_the_order_of_the_figure_that_is_shown(tmp_path):
    steady, one_bad_run = make_row([2.0] * 5, "steady"), make_row([1, 1, 1, 1, 9], "one bad run")
    judged = judge([steady, one_bad_run])
    write(judged, tmp_path)
    assert [row.policy for row in judged.rows] == ["one bad run", "steady"]
    text = (tmp_path / "comparison.md").read_text()
    assert text.index("| one bad run") < text.index("| steady")


def test_runs_that_all_diverged_are_a_table_without_the_picture_of_what_is_left(tmp_path, capsys):
    runs = [make_run(seed, 20.0) for seed in range(2)]
    for run in runs:
        run.summary["final"]["diverged"] = True
    judged = judge([row_of("wild", runs)])
    (tmp_path / "pareto.png").write_text("of an older comparison")
    write(judged, tmp_path)
    assert "2 of wild diverged" in (tmp_path / "comparison.md").read_text()
    assert not (tmp_path / "pareto.png").exists()
    show(judged, tmp_path)
    assert capsys.readouterr().out.endswith("/comparison.png and ties.png\n")


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_seeds_are_an_error(seeds, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["tied", "--seeds", str(seeds), "--runs-dir", str(tmp_path)])
    assert f"seeds={seeds} must be at least 1" in capsys.readouterr().err


def test_no_policy_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no policies given"):
        compare(Options(policies=(), runs_dir=tmp_path, env=ENV))
