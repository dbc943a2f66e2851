"""Minari data sets: there and back to the bit, and nothing hostile is followed or made."""

import json
import math
import os
import sys

import gymnasium
import numpy as np
import pytest

from baselines import random_tying
from tests.tiegym.small import SMALL
from tiegym import cli
from tiegym.config import TieConfig
from tiegym.offline import minari_data
from tiegym.offline.convert import play_table
from tiegym.offline.minari_data import read_data_set, write_data_set
from tiegym.offline.recorded import trajectories_of
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run

h5py = pytest.importorskip("h5py")
pytest.importorskip("minari")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs."""
    folder = tmp_path_factory.mktemp("runs")
    env = TieConfig(**SMALL | {"tie_parts": "attention+mlp", "choices": "tie+freeze"})
    for seed in (0, 1):
        random_tying.train(random_tying.Options(runs_dir=folder, quiet=True, env=env, seed=seed))
    return folder


@pytest.fixture
def made(tmp_path, tree_file):
    """A data set of a table."""
    out = tmp_path / "made-v0"
    write_data_set(play_table(str(tree_file), 3, "random", 0), out, "random")
    return out


def assert_same(one, other):
    assert one.env == other.env
    assert one.corpus_sha256 == other.corpus_sha256
    assert one.iterations == other.iterations
    assert len(one.episodes) == len(other.episodes)
    for a, b in zip(one.episodes, other.episodes, strict=True):
        assert a.observations.keys() == b.observations.keys()
        for name in a.observations:
            np.testing.assert_array_equal(a.observations[name], b.observations[name])
            assert a.observations[name].dtype == b.observations[name].dtype
        np.testing.assert_array_equal(a.actions, b.actions)
        np.testing.assert_array_equal(a.rewards, b.rewards)
        assert a.seed == b.seed


def test_runs_become_a_data_set_and_that_becomes_rows_again(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cli.main(["minari", str(runs), "--out", "tie-v0"])
    assert capsys.readouterr().out == "data set: tie-v0, 2 episodes of 12 steps\n"
    assert gymnasium.spec("TieEnv-v0").kwargs == {}  # what gymnasium.make makes stays what it was
    found = read_data_set(tmp_path / "tie-v0")
    expected = [trajectories_of(read_run(f), math.log(256)) for f in sorted(runs.iterdir())]
    assert found.iterations == 2 * SMALL["max_iters"]
    for one, run in zip(found.episodes, expected, strict=True):
        assert_same(
            type(found)(found.env, found.corpus_sha256, (one,), run.iterations),
            type(found)(found.env, run.corpus_sha256, run.episodes, run.iterations),
        )
    cli.main(["minari", "--from", "tie-v0", "--out", "back"])
    assert capsys.readouterr().out == "run folder: back, 2 episodes\n"
    back = read_run(tmp_path / "back")
    assert back.summary is None
    again = trajectories_of(back, math.log(256))
    assert [one.seed for one in again.episodes] == [0, 1]  # by which agents leave out their own
    for one, other in zip(found.episodes, again.episodes, strict=True):
        for name in one.observations:
            np.testing.assert_array_equal(one.observations[name], other.observations[name])
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.rewards, other.rewards)
    for name in ("ties", "iteration", "action", "reward", "terminated", "frozen"):
        rows = [row[name] for f in sorted(runs.iterdir()) for row in read_run(f).steps]
        assert [row[name] for row in back.steps] == rows


def test_minari_itself_reads_what_was_written(runs, tmp_path, monkeypatch):
    import minari

    cli.main(["minari", str(runs), "--out", str(tmp_path / "tie-v0")])
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("tie-v0")
    assert dataset.total_episodes == 2
    assert dataset.total_steps == 12
    assert dataset.env_spec.kwargs["n_layer"] == 4
    for one, other in zip(
        dataset.iterate_episodes(), read_data_set(tmp_path / "tie-v0").episodes, strict=True
    ):
        np.testing.assert_array_equal(one.observations["loss"], other.observations["loss"])
        np.testing.assert_array_equal(one.actions, other.actions)
        assert dataset.observation_space["ties"].contains(one.observations["ties"][0])
        assert one.terminations.tolist() == [False] * 5 + [True]
    made = dataset.recover_environment().unwrapped
    assert made.config.tie_parts == "attention+mlp"


def test_a_table_becomes_a_data_set_with_all_that_its_observations_have(
    tree_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for behaviour in ("random", "random-fixed"):
        arguments = ["--table", str(tree_file), "--episodes", "4", "--behaviour", behaviour]
        cli.main(["minari", *arguments, "--out", f"{behaviour}-v1"])
        found = read_data_set(tmp_path / f"{behaviour}-v1")
        assert_same(found, play_table(str(tree_file), 4, behaviour, 0))
        assert "layer_stats" in found.episodes[0].observations
        assert found.iterations == 0
        assert {one.seed for one in found.episodes} <= {0, 1}  # of the split train
        kept = [(one.actions[:2] == one.actions[2:]).all() for one in found.episodes]
        assert all(kept) == (behaviour == "random-fixed")


def test_a_data_set_is_read_without_minari(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    assert len(read_data_set(made).episodes) == 3


def test_without_the_packages_the_error_says_how_to_get_them(made, tmp_path, monkeypatch, runs):
    for name in ("minari", "minari.data_collector.episode_buffer"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"pip install 'tiegym\[minari\]'"):
        write_data_set(read_data_set(made), tmp_path / "other-v0", "x")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"h5py .*pip install 'tiegym\[minari\]'"):
        read_data_set(made)


def edit_facts(folder, **changes):
    path = folder / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def arrays(folder):
    return h5py.File(folder / "data" / "main_data.hdf5", "a")


def replace(folder, name, **how):
    with arrays(folder) as file:
        del file[name]
        file.create_dataset(name, **how)


def link_out(folder):
    outside = folder.parent / "outside.hdf5"
    with h5py.File(outside, "w") as file:
        file["secret"] = np.zeros(4)
    with arrays(folder) as file:
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = h5py.ExternalLink(str(outside), "secret")


def external(folder):
    (folder.parent / "secret").write_bytes(bytes(32))
    where = [(str(folder.parent / "secret"), 0, 32)]
    replace(folder, "episode_0/rewards", shape=(4,), dtype="f8", external=where)


def virtual(folder):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f8")
    layout[:] = h5py.VirtualSource(str(folder.parent / "outside.hdf5"), "secret", shape=(4,))
    with arrays(folder) as file:
        del file["episode_0/rewards"]
        file.create_virtual_dataset("episode_0/rewards", layout)


def pipe(folder):
    path = folder / "data" / "main_data.hdf5"
    path.unlink()
    os.mkfifo(path)


def symbolic(folder):
    path = folder / "data" / "main_data.hdf5"
    path.rename(folder.parent / "elsewhere.hdf5")
    path.symlink_to(folder.parent / "elsewhere.hdf5")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (link_out, "'rewards' is a link"),
        (external, "rewards holds no numbers of its own"),
        (virtual, "rewards holds no numbers of its own"),
        (symbolic, "is a link, or isn't there"),
        (pipe, "main_data.hdf5"),
        (
            lambda f: replace(
                f, "episode_1/rewards", data=np.zeros(4), chunks=(2**28,), maxshape=(None,)
            ),
            "shape",
        ),
        (lambda f: replace(f, "episode_1/actions", data=[0.9, 0, 0, 0]), "whole numbers"),
        (
            lambda f: replace(f, "episode_1/observations/layer", data=[65537, 0, 0, 0, 0]),
            "whole numbers",
        ),
        (lambda f: replace(f, "episode_1/rewards", shape=(2**40,), dtype="f8"), "shape"),
        (lambda f: replace(f, "episode_1/actions", data=[9, 0, 0, 0]), "an action isn't in"),
        (lambda f: replace(f, "episode_1/actions", data=["a"] * 4), "no numbers of its own"),
        (lambda f: replace(f, "episode_1/rewards", data=[0, 1, np.nan, 0]), "isn't finite"),
        (lambda f: replace(f, "episode_1/terminations", data=[0, 1, 0, 0]), "isn't one whole run"),
        (
            lambda f: replace(f, "episode_1/observations/ties", data=np.full((5, 3), 2)),
            "ties isn't",
        ),
        (lambda f: (f / "data" / "main_data.hdf5").write_bytes(b"x"), "is damaged"),
        (lambda f: edit_facts(f, total_episodes=9), "is a link, or isn't there"),
        (lambda f: edit_facts(f, total_episodes="9"), "total_episodes is '9'"),
        (lambda f: edit_facts(f, data_format="arrow"), "has the format 'arrow'"),
        (lambda f: edit_facts(f, tiegym=None), "isn't of `tiegym minari`"),
        (lambda f: edit_facts(f, tiegym={"env": {"n_layer": 2**60}}), "no TieEnv has such"),
        (lambda f: (f / "data" / "metadata.json").write_text("{"), "is damaged"),
        (lambda f: (f / "data" / "metadata.json").unlink(), "is no Minari data set"),
    ],
)
def test_what_is_damaged_or_hostile_is_refused(made, spoil, message):
    spoil(made)
    with pytest.raises(InputError, match=message):
        read_data_set(made)


def test_an_environment_that_a_data_set_names_is_never_made(made, monkeypatch):
    import gymnasium

    spec = {"id": "x-v0", "entry_point": "os:system", "kwargs": {"command": "exit 1"}}
    facts = {"env_spec": json.dumps(spec), "observation_space": None, "action_space": None}
    edit_facts(made, **facts)
    monkeypatch.setattr(gymnasium, "make", lambda *args, **kwargs: 1 / 0)
    assert len(read_data_set(made).episodes) == 3


def test_too_many_bytes_are_refused_before_they_are_read(made, monkeypatch):
    monkeypatch.setattr(minari_data, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="shape"):
        read_data_set(made)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give run folders, or --from DATASET, or --table NAME"),
        (["runs", "--table", "tree-4x2-stdlib-sum"], "one of these"),
        (["nowhere", "--out", "x-v0"], "error: nowhere: there is no such folder"),
        (["--table", "tree-4x2-stdlib-sum", "--out", "x"], "must end in a version, such as x-v0"),
        (["--table", "tree-9x9", "--out", "x-v0"], "error: table='tree-9x9' is unknown"),
        (["--table", "tree-4x2-stdlib-sum", "--episodes", "0"], "episodes=0 must be at least 1"),
        (["--table", "tree-4x2-stdlib-sum", "--seed", "-1"], "seed=-1 must be 0 or more"),
        (["--table", "tree-4x2-stdlib-sum", "--out", "there-v0"], "is there already"),
        (["--from", "nowhere"], "is no Minari data set"),
        (["nowhere", "--seed", "3"], "--seed 3 has no effect here: it is of --table"),
        (["--from", "x", "--behaviour", "random"], "--behaviour random has no effect here"),
        (["--table", "tree-4x2-stdlib-sum", "--corpus", "x"], "--corpus x has no effect here"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_status_2(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there-v0").mkdir()
    with pytest.raises(SystemExit) as ended:
        cli.main(["minari", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there-v0"]
