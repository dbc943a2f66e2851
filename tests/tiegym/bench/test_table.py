from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np
import pytest

import tiegym
from tests.tiegym.bench.conftest import TINY, options
from tiegym.bench import make as program
from tiegym.bench.make import main, make, make_plan
from tiegym.bench.table import load_table, read_table, write_table
from tiegym.runs.input_errors import InputError


def real(table, **changes):
    config = {**table.facts["config"], "corpus": "synthetic:20000", **changes}
    return tiegym.TieEnv(**config)


@pytest.fixture(autouse=True)
def _one_thread():
    with program.one_thread():
        yield


def test_a_path_of_the_table_is_what_the_environment_does(tree_table):
    tree, rng = tree_table.tree, np.random.default_rng(0)
    env = real(tree_table)
    for leaf in rng.choice(tree.leaves, 3, replace=False):
        for seed in tree_table.all_seeds[:2]:
            row, node = tree_table.row_of(seed), 0
            env.reset(seed=seed)
            for action in tree.path(int(leaf)):
                observation, _, terminated, _, info = env.step(action)
                node = int(tree.children[node, action])
                segment = tree.segment[node]
                assert info["ties"].tolist() == tree.ties[node].tolist()
                assert info["val_loss"] == tree_table.arrays["val"][row, segment]
                assert info["train_loss"] == tree_table.arrays["train"][row, segment]
                assert env.test_loss() == tree_table.arrays["test"][row, segment]
                stats = tree_table.arrays["stats"][row, segment]
                assert (observation["layer_stats"] == stats).all()
            assert terminated


def test_a_table_says_its_text_and_no_path_of_this_machine(tree_table, tmp_path):
    assert tree_table.facts["config"]["corpus"] == "synthetic:20000"
    text = tmp_path / "words.txt"
    text.write_text("one two three four " * 400)
    table = load_table(str(make(options(tmp_path, "tree-2x1-mine-owner", corpus=str(text)))))
    assert table.facts["config"]["corpus"] == "mine"


def test_every_figure_is_there(tree_table):
    for array in tree_table.arrays.values():
        assert np.isfinite(array).all()


def test_a_fixed_sharing_is_what_the_environment_does(tree_table):
    env = real(tree_table, initial_ties=(0, 1, 0))
    observation, _ = env.reset(seed=1)
    for point in tree_table.points:
        keep = int(observation["ties"][observation["layer"]])
        observation, _, _, _, info = env.step(keep)
        asked = tree_table.query((0, 1, 0), int(point), seed=1)
        assert asked["val_loss"] == info["val_loss"]
    assert asked["test_loss"] == pytest.approx(math.log(info["test_perplexity"]), rel=1e-12)


def test_shallow_models_are_untied_ones_of_fewer_layers(tree_table):
    env = real(tree_table, n_layer=2, initial_ties="independent")
    env.reset(seed=0)
    for _ in tree_table.points:
        _, _, _, _, info = env.step(1)
    assert tree_table.arrays["shallow_val"][0, 1, -1] == info["val_loss"]


def test_tie_vectors_with_the_same_roots_ask_for_the_same_sharing(tree_table):
    assert tree_table.query([0, 0, 1]) == tree_table.query("tied")
    assert tree_table.query([0, 0, 1]) != tree_table.query("independent")
    assert tree_table.trajectory("tied")["val_loss"].shape == tree_table.points.shape


def test_without_a_seed_a_query_is_the_mean(tree_table):
    each = [tree_table.query("tied", seed=s)["val_loss"] for s in tree_table.all_seeds]
    assert tree_table.query("tied")["val_loss"] == pytest.approx(np.mean(each))


def test_children_are_the_decisions_that_differ(tree_table):
    assert tree_table.children(0) == [1, 2]
    assert tree_table.children(int(tree_table.tree.leaves[0])) == []


def test_a_table_of_patterns_has_no_decisions(patterns_file):
    table = load_table(str(patterns_file))
    assert table.query("independent", 9)["val_loss"] > 0
    with pytest.raises(ValueError, match="holds fixed sharings and no decisions"):
        table.tree  # noqa: B018


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.query([0, 0]), "2 entries, but there are 3 layers"),
        (lambda t: t.query("tied", iteration=5), "iteration=5 is not in table"),
        (lambda t: t.query("tied", seed=77), "seed=77 is not in table"),
        (lambda t: t.children(10**6), "node=1000000 is not in the tree"),
        (lambda t: t.rows_of("test"), "split='test' is unknown: choose train or held-out"),
    ],
)
def test_what_is_not_recorded_is_refused(tree_table, call, message):
    with pytest.raises(ValueError, match=message):
        call(tree_table)


def test_one_flipped_byte_anywhere_is_refused(tree_file):
    content = tree_file.read_bytes()
    for place in np.random.default_rng(0).choice(len(content), 60, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="doesn't match its checksum"):
            read_table(bytes(damaged), "damaged")
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        with pytest.raises(ValueError, match="doesn't match its checksum"):
            read_table(content[:cut], "cut")


def test_the_same_table_is_the_same_file(tree_file, tmp_path):
    table = load_table(str(tree_file))
    write_table(tmp_path / "again.npz", table)
    assert (tmp_path / "again.npz").read_bytes() == tree_file.read_bytes()


def test_a_table_knows_the_checksum_of_its_file(tree_file, tree_table):
    assert tree_table.sha256 == hashlib.sha256(tree_file.read_bytes()[:-64]).hexdigest()


def test_a_table_is_read_with_numpy_alone(tree_file):
    with np.load(tree_file, allow_pickle=False) as file:
        assert file["val"].dtype == np.float32
        assert b'"corpus_sha256"' in file["facts"].tobytes()


def test_a_stopped_program_goes_on_with_the_seeds_that_are_missing(tmp_path, monkeypatch):
    chosen = options(tmp_path, "tree-2x2-tiny-sum")
    recorded = []
    original = program.record_part

    def stop_after_one(parts, plan, seed):
        if recorded:
            raise KeyboardInterrupt
        recorded.append(seed)
        original(parts, plan, seed)

    with monkeypatch.context() as patch:
        patch.setattr(program, "record_part", stop_after_one)
        with pytest.raises(KeyboardInterrupt):
            make(chosen)

    def record(parts, plan, seed):
        recorded.append(seed)
        original(parts, plan, seed)

    monkeypatch.setattr(program, "record_part", record)
    table = load_table(str(make(chosen)))
    assert recorded == [0, 1, 2]
    whole = load_table(str(make(options(tmp_path / "whole", "tree-2x2-tiny-sum"))))
    for key, array in whole.arrays.items():
        assert (array == table.arrays[key]).all()


def test_a_seed_that_is_kept_holds_its_arrays_alone(tmp_path, monkeypatch):
    """NumPy 2.0 takes every keyword of savez for an array."""
    given = {}
    original = np.savez

    def savez(file, **arrays):
        given.update(arrays)
        original(file, **arrays)

    monkeypatch.setattr(np, "savez", savez)
    plan = make_plan(options(tmp_path, "tree-2x1-tiny-sum"))
    program.record_part(tmp_path, plan, 0)
    kept = program.read_part(tmp_path, plan, 0)
    assert {*given} == {"fingerprint", *kept}
    assert all(isinstance(array, np.ndarray) for array in given.values())
    assert program.read_part(tmp_path, plan, 1) is None


@pytest.mark.parametrize("damage", [b"", b"PK", b"no archive", "cut", "flipped", "foreign"])
def test_a_seed_whose_file_is_damaged_ends_the_program_with_one_line(tmp_path, capsys, damage):
    chosen = options(tmp_path, "tree-2x1-tiny-sum", seeds=1)
    make(chosen)
    path = program.part_path(tmp_path / "tree-2x1-tiny-sum.parts", 0)
    content = path.read_bytes()
    if damage == "foreign":
        np.savez(path, fixed_val=np.zeros(3))
    elif damage == "flipped":
        place = content.index(b"fixed_val.npy") + 200
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else damage)
    with pytest.raises(InputError, match=r"seed-0.npz is damaged: .*remove it, and its seed is"):
        make(chosen)
    path.unlink()
    make(chosen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "is no table's name"),
        (["tree-3x2-..-sum"], "is no table's name"),
        (["tree-9x9-stdlib-owner"], "over a million leaves"),
        (["patterns-12-stdlib-owner"], "over 20,000 sharings"),
        (["tree-3x2-nothing-sum"], "corpus='nothing' is unknown"),
        (["tree-3x2-stdlib-sum", "--workers", "0"], "workers=0 must be at least 1"),
        (
            ["tree-3x2-stdlib-sum", "--env.tie-parts=attention+mlp"],
            "env.tie_parts='attention+mlp' can't be recorded: tables are of whole blocks",
        ),
        (
            ["patterns-3-stdlib-sum", "--env.model=llama"],
            "env.model='llama' can't be recorded",
        ),
        (
            ["patterns-3-stdlib-sum", "--env.choices=tie+freeze"],
            "env.choices='tie+freeze' can't be recorded",
        ),
        (
            ["patterns-3-stdlib-sum", "--env.features=moved"],
            "env.features='moved' can't be recorded",
        ),
    ],
)
def test_wrong_tables_end_the_program_with_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_tokenizer_of_ones_own_is_refused(tmp_path, capsys):
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(SystemExit):
        main(["tree-3x2-stdlib-sum", "--env.tokenizer", str(path)])
    assert "is a file of this machine, which a table can't name" in capsys.readouterr().err


def test_an_unknown_table_names_those_that_there_are():
    with pytest.raises(FileNotFoundError, match="table='nothing' is unknown"):
        load_table("nothing")
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        load_table("nothing.npz")


def test_seeds_of_a_text_that_was_edited_are_made_anew(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat. " * 400)
    chosen = options(tmp_path, "tree-2x2-tiny-sum", corpus=str(text), seeds=1)
    first = read_table(make(chosen).read_bytes(), "first")
    text.write_text("a dog lay in the fog. " * 400)
    second = read_table(make(chosen).read_bytes(), "second")
    assert first.facts["corpus_sha256"] != second.facts["corpus_sha256"]
    assert (first.arrays["val"] != second.arrays["val"]).all()


def test_a_run_that_diverges_ends_the_program_with_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(
            [
                *("tree-2x2-tiny-sum", "--corpus=synthetic:20000", f"--out={tmp_path}", "--quiet"),
                *("--env.n-embd=16", "--env.block-size=16", "--env.learning-rate=1e4"),
                *("--env.divergence-loss=6", "--env.test-tokens=100", "--seeds=1"),
            ]
        )
    assert stop.value.code == 2
    assert "diverged after" in capsys.readouterr().err


def test_patterns_that_train_together_are_what_the_environment_does_up_to_rounding(tmp_path):
    env = dataclasses.replace(TINY, dropout=0.1, learning_rate=3e-3)

    def make_one(name, **changes):
        changes = {"seeds": 1, "env": env, **changes}
        return load_table(str(make(options(tmp_path / name, "patterns-3-tiny-sum", **changes))))

    table = make_one("together")
    assert table.facts["fixed_runs"] == "together"
    for row, ties in enumerate(((0, 0, 0), (0, 1, 0), (0, 1, 2))):
        single = real(table, initial_ties=ties, tie_grad="sum")
        observation, _ = single.reset(seed=0)
        for point in table.points:
            keep = int(observation["ties"][observation["layer"]])
            observation, _, _, _, info = single.step(keep)
            asked = table.query(ties, int(point), seed=0)
            for key in ("train_loss", "val_loss"):
                # Sums in another order: the last bits of float32, which training amplifies.
                assert asked[key] == pytest.approx(info[key], abs=1e-4), (row, key)
        assert asked["test_loss"] == pytest.approx(math.log(info["test_perplexity"]), abs=1e-4)
    again = make_one("two processes", workers=2)
    for key, array in table.arrays.items():
        assert (array == again.arrays[key]).all(), key


def test_trees_and_wide_transformers_train_alone(tree_table, tmp_path):
    assert tree_table.facts["fixed_runs"] == "alone"
    wide = make_plan(
        options(tmp_path, "patterns-3-tiny-sum", env=dataclasses.replace(TINY, n_embd=128))
    )
    assert not wide.together


def test_a_table_that_was_written_again_is_read_again(tree_table, tmp_path):
    path = tmp_path / "mine.npz"
    write_table(path, tree_table)
    first = load_table(path)
    assert load_table(str(path)) is first
    arrays = {name: values + (name == "val") for name, values in tree_table.arrays.items()}
    write_table(path, dataclasses.replace(tree_table, arrays=arrays))
    second = load_table(path)
    assert second.sha256 != first.sha256
    np.testing.assert_array_equal(second.arrays["val"], first.arrays["val"] + 1)


def test_what_all_readers_of_a_table_share_none_of_them_writes(tree_table):
    tree = tree_table.tree
    for array in (*tree_table.arrays.values(), tree.ties, tree.children, tree.segment):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
