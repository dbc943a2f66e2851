"""Runs are found in folders, however deep, and one that can't be read doesn't hide the others."""

import os

import pytest

from tests.tiegym.analysis.made_up import make_run, write_run
from tiegym.analysis.find import TUNING_SEEDS, find_runs
from tiegym.analysis.groups import group_runs, policy_name, without_tuning
from tiegym.runs.json_files import write_json


@pytest.fixture
def runs(tmp_path):
    """Two runs at different depths."""
    write_run(make_run(0, 1.0), tmp_path / "runs" / "a")
    write_run(make_run(1, 1.0), tmp_path / "runs" / "compare" / "deep" / "b")
    return tmp_path / "runs"


def names(folders, skipped=None):
    skip = pytest.fail if skipped is None else skipped.append
    return [run.folder.name for run in find_runs(folders, skip)]


def test_runs_are_found_at_any_depth_and_once(runs):
    assert names([runs]) == ["a", "b"]
    assert names([runs, runs / "a", runs / "compare"]) == ["a", "b"]


def test_what_is_in_a_run_folder_and_in_hidden_folders_is_none(runs):
    write_run(make_run(2, 1.0), runs / "a" / "agent")
    write_run(make_run(2, 1.0), runs / ".trash" / "c")
    assert names([runs]) == ["a", "b"]


def test_runs_that_chose_learning_rates_are_left_out_unless_they_are_named(runs):
    tuning = runs / "compare" / "tuning"
    write_run(make_run(TUNING_SEEDS[0], 1.0), tuning / "c")
    write_run(make_run(TUNING_SEEDS[1], 1.0), tuning / "d")
    write_run(make_run(2, 1.0), runs / "tuning" / "e")  # somebody's own
    skipped = []

    def judged(*folders):
        kept = without_tuning(find_runs(folders), folders, skipped.append)
        return [run.folder.name for run in kept]

    assert judged(runs) == ["a", "b", "e"]
    (said,) = skipped
    assert said.startswith(f"{tuning} is left out: its runs chose learning rates")
    assert judged(tuning) == ["c", "d"]
    assert judged(runs, tuning / "d") == ["a", "b", "d", "e"]
    with pytest.raises(ValueError, match="tuning holds runs that chose learning rates, and there"):
        without_tuning(find_runs([tuning]), [runs], skipped.append)
    assert names([runs]) == ["a", "b", "c", "d", "e"]  # as trajectories they are good ones


def test_links_are_followed_and_loops_end(runs, tmp_path):
    (runs / "compare" / "up").symlink_to(runs)
    (runs / "loop").symlink_to(runs / "loop")
    write_run(make_run(2, 1.0), tmp_path / "elsewhere" / "c")
    (runs / "linked").symlink_to(tmp_path / "elsewhere")
    assert names([runs]) == ["a", "b", "c"]


def still_searching(folder):
    folder.mkdir()
    write_json(folder / "config.json", {"format": 1, "program": "evolution", "options": {}})


def half_a_config(folder):
    folder.mkdir()
    (folder / "config.json").write_text('{"format": 1, "pro')


def newer(folder):
    folder.mkdir()
    write_json(folder / "config.json", {"format": 99, "env": {}})


def damaged_rows(folder):
    write_run(make_run(2, 1.0), folder)
    (folder / "steps.jsonl").write_text("{]\n")


def pipe(name):
    def make(folder):
        write_run(make_run(2, 1.0), folder)
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return make


def device(folder):
    write_run(make_run(2, 1.0), folder)
    (folder / "steps.jsonl").unlink()
    (folder / "steps.jsonl").symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (still_searching, "still searching"),
        (half_a_config, "is damaged"),
        (newer, "has format 99"),
        (damaged_rows, "line 1, is damaged"),
        (pipe("config.json"), "no regular file"),
        (pipe("steps.jsonl"), "no regular file"),
        (pipe("summary.json"), "no regular file"),
        (device, "no regular file"),
    ],
)
def test_a_run_that_cannot_be_read_is_named_and_left_out_or_refused(runs, make, message):
    make(runs / "bad")
    skipped = []
    assert names([runs], skipped) == ["a", "b"]
    (text,) = skipped
    assert "bad is left out" in text
    assert message in text
    with pytest.raises(ValueError, match=message):
        find_runs([runs / "bad"])


def test_a_folder_in_which_no_run_can_be_read_says_so(tmp_path):
    half_a_config(tmp_path / "bad")
    with pytest.raises(ValueError, match="none in it that can be read"):
        find_runs([tmp_path], [].append)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"none in it$"):
        find_runs([tmp_path / "empty"])


def test_policies_have_the_names_of_a_comparison():
    programs = ["random_tying", "random_fixed", "random_raw", "fixed-cycle:2", "shallow-2", "dqn"]
    names = [policy_name(make_run(0, 1.0, program)) for program in programs]
    assert names == ["random", "random-fixed", "random-raw", "cycle:2", "shallow:2", "dqn"]


def test_ties_that_a_program_drew_for_its_seed_make_no_policy_of_their_own():
    runs = [make_run(seed, 1.0, initial_ties=[0, 0, seed, 0]) for seed in range(3)]
    assert len(group_runs(runs)) == 3
    for key in ("drawn", "found", "chosen"):
        for run in runs:
            run.config[key] = {"ties": run.config["env"]["initial_ties"]}
        assert len(group_runs(runs)) == 1
        for run in runs:
            del run.config[key]


@pytest.mark.parametrize("name", ["quiet", "runs_dir", "resume", "checkpoint_every_steps"])
def test_what_changes_nothing_that_a_run_does_makes_no_policy(name):
    runs = [make_run(0, 1.0), make_run(1, 1.0)]
    runs[0].config["options"][name] = "other"
    assert [len(group.runs) for group in group_runs(runs)] == [2]
