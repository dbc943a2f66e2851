"""Files that are no tables, each with a checksum that is right: one error, and nothing else."""

from __future__ import annotations

import dataclasses
import io
import json
import time
import tracemalloc

import numpy as np
import pytest

from tests.tiegym.bench.conftest import members, npy, packed, signed, with_facts
from tiegym.bench import table as tables
from tiegym.bench import table_checks
from tiegym.bench.recorded import real_config
from tiegym.bench.table import load_table, read_table, write_table
from tiegym.bench.table_checks import count_sharings
from tiegym.bench.tree import sharings


@pytest.fixture
def content(tree_file):
    return tree_file.read_bytes()


def refused(content, message):
    """Checks that bytes are refused, by a ValueError that names the table, and at once."""
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(ValueError, match=message) as error:
        read_table(content, "of-a-stranger")
    assert time.process_time() - begin < 5
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert str(error.value).startswith("table 'of-a-stranger' ")


def without(name):
    return lambda facts: facts.pop(name)


def having(**values):
    return lambda facts: facts.update(values)


def of_config(**values):
    return lambda facts: facts["config"].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (having(format=2), "has format 2, but this tiegym reads 1"),
        (without("name"), "calls itself None"),
        *((having(name=name), "calls itself") for name in ("../up", "a b", "", ".hidden", "a\n")),
        (having(name=5), "calls itself 5: names are letters, digits, -, _ and ."),
        (without("config"), "its config is None"),
        (having(config=["n_layer"]), "its config is"),
        *((of_config(n_layer=n), "config.n_layer is .* from 2 to 9") for n in (15, 1, "3", True)),
        *((of_config(divergence_loss=x), "divergence_loss is") for x in (1e9, 0, "20", [20])),
        (without("seeds"), "its seeds is None"),
        (having(seeds=[0, 1, 2]), "lists of recorded seeds by split"),
        (having(seeds={"train": [0, 1], "held-out": 2}), "lists of recorded seeds by split"),
        (having(seeds={"train": [0, 1, 2], "held-out": []}), "lists of recorded seeds by split"),
        (having(seeds={"train": [0, 1], "held-out": [1]}), "each in one split and once"),
        (having(seeds={"train": [0, 0], "held-out": [1]}), "each in one split and once"),
        (having(seeds={"train": [0, -1], "held-out": [1]}), "integers, 0 or more"),
        (having(seeds={"train": [0, 1.0], "held-out": [2]}), "integers, 0 or more"),
        (having(seeds={"train": [0, 1], "held-out": [2, 3]}), "its arrays are .*, but must be"),
        (without("n_sweeps"), "its n_sweeps is None"),
        (having(n_sweeps=10**400), "its n_sweeps is"),
        (having(n_sweeps=40), "over a million leaves"),
        (having(n_sweeps=3), "its arrays are .*, but must be"),
        (having(vocab_size="many"), "its vocab_size is 'many'"),
        (without("corpus_sha256"), "its corpus_sha256 is None"),
        (having(params=[1]), "its params is .*must be 3 integers"),
        (having(params=[1, 2, "3"]), "its params is .*must be 3 integers"),
        (having(model_state_bytes=7), "its model_state_bytes is 7"),
        (having(bytes_per_token=1.0), "its bytes_per_token is 1.0"),
        (having(bytes_per_token={"validation": 1.0}), "its bytes_per_token is"),
        (having(bytes_per_token={"validation": 1.0, "test": 0}), "its bytes_per_token is"),
    ],
)
def test_facts_that_are_none_of_a_table_are_refused(content, change, message):
    refused(with_facts(content, change), message)


def test_facts_that_are_no_object_are_refused(content):
    packs = members(content)
    for text, message in ((b"[1]", "no JSON object"), (b"{", "damaged"), (b"[" * 9999, "damaged")):
        facts = npy(np.frombuffer(text, dtype=np.uint8))
        refused(packed({**packs, "facts.npy": facts}), message)
    del packs["facts.npy"]
    refused(packed(packs), "it has no facts")
    many = npy(np.zeros(table_checks.LARGEST_FACTS + 1, dtype=np.uint8))
    refused(packed({**packs, "facts.npy": many}), "or more than 1048576 bytes of them")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("val", lambda a: npy(a, shape=(2**38,)), r"array val says float32 \(274877906944,\)"),
        ("val", lambda a: npy(a[:, 1:]), "its arrays are .*, but must be"),
        ("val", lambda a: npy(a[:, :, None]), "its arrays are .*, but must be"),
        ("val", lambda a: npy(a.astype(np.int64)), "array val is int64, and must be a float"),
        ("val", lambda a: npy(a, descr="|O"), "array val says object"),
        ("val", lambda a: npy(a)[:-1], "array val says float32"),
        ("val", lambda a: b"no array at all", "damaged"),
        ("val", lambda a: npy(np.full_like(a, 900)), "has val losses that are not from 0 to 20 "),
        ("val", lambda a: npy(np.full_like(a, np.nan)), "has val losses that are not"),
        ("val", lambda a: npy(np.full_like(a, -1)), "has val losses that are not"),
        ("test", lambda a: npy(np.full_like(a, np.inf)), "has test losses that are not from 0 to"),
        ("fixed_val", lambda a: npy(np.full_like(a, 900)), "has fixed_val losses that are not"),
        ("shallow_train", lambda a: npy(np.full_like(a, 900)), "has shallow_train losses that are"),
        ("stats", lambda a: npy(a + 3), "has stats that are not from -1 to 1"),
        ("points", lambda a: npy(a[::-1].copy()), "its points are .*, and must rise from 1 on"),
        ("points", lambda a: npy(a - a[0]), "must rise from 1 on"),
        ("points", lambda a: npy(a.astype(np.float64)), "its points are float64"),
        ("points", lambda a: npy(a[:0]), r"its points are int64 \(0,\)"),
    ],
)
def test_arrays_that_are_none_of_a_table_are_refused(content, name, change, message):
    packs = members(content)
    array = np.load(io.BytesIO(packs[f"{name}.npy"]))
    refused(packed({**packs, f"{name}.npy": change(array)}), message)


def test_members_that_are_missing_too_many_or_no_arrays_are_refused(content):
    packs = members(content)
    refused(packed({**packs, "more.npy": packs["val.npy"]}), "its arrays are")
    refused(packed({**packs, "readme": b"hello"}), "'readme' is no array, or is there twice")
    refused(packed({**packs, "val": packs["val.npy"]}), "'val' is no array, or is there twice")
    for name in ("val.npy", "fixed_val.npy", "stats.npy"):
        refused(packed({k: v for k, v in packs.items() if k != name}), "its arrays are")
    refused(packed({k: v for k, v in packs.items() if k != "points.npy"}), "its points are None")


def test_what_would_take_much_memory_is_refused_unread(content, tmp_path, monkeypatch):
    large = b"\0" * (table_checks.LARGEST // 2)
    bomb = packed({"a.npy": large, "b.npy": large, "c.npy": b"1"})
    assert len(bomb) < 2**20
    refused(bomb, "would take more than 268435456 bytes of memory")
    path = tmp_path / "large.npz"
    path.write_bytes(content)
    monkeypatch.setattr(table_checks, "LARGEST", len(content) - 1)
    monkeypatch.setattr(tables, "read_table", lambda *args: 1 / 0)
    with pytest.raises(ValueError, match=r"large.npz' has more than \d+ bytes: it is no table"):
        load_table(str(path))


@pytest.mark.parametrize("inside", [b"", b"hello", b"PK\x05\x06" + bytes(18)])
def test_a_checksum_makes_no_table_of_other_bytes(inside):
    refused(signed(inside + b"sha256:"), "damaged or no table|it has no facts")


def error_of(content):
    """What a ValueError says; None where there is none."""
    try:
        read_table(content, "damaged")
    except ValueError as error:
        return str(error)
    return None


def test_an_archive_whose_bytes_were_damaged_before_it_was_signed_is_refused(content):
    for place in range(40, len(content) - 80, len(content) // 50):
        damaged = bytearray(content[:-64])
        damaged[place] ^= 1
        said = error_of(signed(bytes(damaged)))
        assert said is None or said.startswith("table 'damaged' ")  # a date decides nothing


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"wings": 2}, "was made with wings, which this tiegym doesn't know"),
        ({"n_head": "two"}, "is damaged: no TieEnv is as it says: .*n_head"),
        ({"n_embd": -1}, "is damaged: no TieEnv is as it says: .*n_embd"),
        ({"initial_ties": [[0]]}, "is damaged: no TieEnv is as it says: "),
        ({"action": "joint"}, "holds 4 layerwise decisions, but says action='joint'"),
        ({"max_iters": 6}, "holds 4 layerwise decisions, but says action='layerwise' and 2 steps"),
    ],
)
def test_a_tree_whose_arguments_no_environment_has_is_refused(content, tmp_path, config, message):
    path = tmp_path / "tree.npz"
    path.write_bytes(with_facts(content, of_config(**config)))
    with pytest.raises(ValueError, match=f"table 'tree-3x2-tiny-owner' .*{message}"):
        real_config(str(path))


def test_a_table_whose_arrays_lie_column_by_column_is_the_same(content, tree_table):
    packs = members(content)
    array = np.asfortranarray(tree_table.arrays["val"])
    file = io.BytesIO()
    np.save(file, array)
    assert b"'fortran_order': True" in file.getvalue()
    table = read_table(packed({**packs, "val.npy": file.getvalue()}), "columns")
    np.testing.assert_array_equal(table.arrays["val"], tree_table.arrays["val"])


def test_nobody_writes_into_a_table(tree_table):
    for array in (tree_table.points, *tree_table.arrays.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../up"}, "calls itself '../up'"),
        ({"seeds": {"train": [0, 1], "held-out": [0]}}, "each in one split and once"),
        ({"points": np.array([3, 6, 12, 9])}, "must rise from 1 on"),
    ],
)
def test_what_could_not_be_read_is_not_written(tree_table, tmp_path, changes, message):
    table = dataclasses.replace(tree_table, **changes)
    with pytest.raises(ValueError, match=f"table {table.name!r} .*{message}"):
        write_table(tmp_path / "t.npz", table)
    arrays = {**tree_table.arrays, "val": tree_table.arrays["val"][:, 1:]}
    with pytest.raises(ValueError, match="its arrays are"):
        write_table(tmp_path / "t.npz", dataclasses.replace(tree_table, arrays=arrays))
    arrays["val"] = tree_table.arrays["val"] * np.float32("nan")
    with pytest.raises(ValueError, match="has val losses that are not"):
        write_table(tmp_path / "t.npz", dataclasses.replace(tree_table, arrays=arrays))
    assert not list(tmp_path.iterdir())


def test_sharings_are_counted_without_being_made():
    assert [count_sharings(n) for n in range(1, 8)] == [len(sharings(n)) for n in range(1, 8)]
    assert count_sharings(15) == 1_382_958_545


def test_the_helpers_make_a_table_that_is_read(content, tree_table):
    again = read_table(with_facts(content, lambda facts: None), "again")
    assert json.dumps(again.facts) == json.dumps(tree_table.facts)
    assert again.seeds == tree_table.seeds
