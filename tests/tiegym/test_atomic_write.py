"""Atomic files: whole or not there, flushed before they are named, and for others to read."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from tiegym import atomic_write, ties
from tiegym.atomic_write import replacing, sync_folder, write_bytes
from tiegym.data import token_cache
from tiegym.data.tokenization import make_tokenizer
from tiegym.pictures.style import save_png
from tiegym.runs.json_files import write_json
from tiegym.transformer.gpt import Shape, TiedTransformer
from tiegym.transformer.gpt2_export import export_gpt2
from tiegym.transformer.tensor_file import write_tensors


@pytest.fixture(params=[0o022, 0o027, 0o077, 0o002], ids="umask {:03o}".format)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def export(path):
    tokenizer = make_tokenizer("bytes", "")
    model = TiedTransformer(Shape(tokenizer.vocab_size, 2, 1, 4, 4), ties.pattern("tied", 2))
    model.initialize(seed=0)
    export_gpt2(model, tokenizer, path)


WRITERS = {
    "bytes": lambda path: write_bytes(path, b"new"),
    "JSON": lambda path: write_json(path, {"new": 1}),
    "picture": lambda path: save_png(Figure(figsize=(1, 1)), path),
    "model": lambda path: write_tensors(path, "model", {"x": torch.ones(3)}, 1),
    "tokens": lambda path: token_cache.write(
        path, token_cache.TokenizedText({"train": np.zeros(3, np.uint8)}, "bytes")
    ),
    "GPT-2": export,
}
writers = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


@writers
def test_what_is_written_is_as_readable_as_any_new_file(write, umask, tmp_path):
    write(tmp_path / "written")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert {path.name: oct(mode(path)) for path in files} == {
        path.name: oct(0o666 & ~umask) for path in files
    }


@writers
def test_nothing_stays_beside_what_is_written(write, tmp_path):
    write(tmp_path / "written")
    assert names(tmp_path) == ["written"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [b"old", None])
def test_a_failure_leaves_the_old_file_and_nothing_else(error, old, tmp_path):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def fail():
        with replacing(path) as temporary:
            temporary.write_bytes(b"half")
            raise error("in the middle")

    with pytest.raises(error, match="in the middle"):
        fail()
    assert names(tmp_path) == (["file"] if old is not None else [])
    assert old is None or path.read_bytes() == old


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_failure_of_the_disk_leaves_the_old_file_and_nothing_else(name, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(atomic_write.os, name, full)
    with pytest.raises(OSError, match="no space left"):
        write_bytes(path, b"new")
    assert names(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_a_block_that_removes_its_temporary_file_is_an_error_and_changes_nothing(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), replacing(path) as temporary:
        temporary.unlink()
    assert path.read_bytes() == b"old"


def test_a_missing_folder_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        write_bytes(tmp_path / "nowhere" / "file", b"new")


def test_content_reaches_the_disk_before_its_name_and_the_name_before_the_end(
    tmp_path, monkeypatch
):
    """A power cut at any point leaves the old file or the whole new one."""
    happened = []
    fsync, replace = os.fsync, os.replace

    def spied_fsync(handle):
        happened.append(("flushed", Path(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def spied_replace(source, target):
        happened.append(("named", Path(target)))
        assert Path(source).read_bytes() == b"new"
        replace(source, target)

    monkeypatch.setattr(atomic_write.os, "fsync", spied_fsync)
    monkeypatch.setattr(atomic_write.os, "replace", spied_replace)
    path = tmp_path.resolve() / "file"
    write_bytes(path, b"new")
    (flushed, temporary), *rest = happened
    assert flushed == "flushed"
    assert (temporary.parent, temporary.name[:6]) == (path.parent, ".file.")
    assert rest == [("named", path), ("flushed", path.parent)]


def test_two_writers_of_one_file_have_a_temporary_file_each(tmp_path):
    path = tmp_path / "file"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first"  # the block that ended last
    assert names(tmp_path) == ["file"]


def test_a_folder_is_synced_and_its_handle_closed(tmp_path):
    handles = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        sync_folder(tmp_path)
    assert set(os.listdir("/proc/self/fd")) == handles
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "nowhere")


def _raise(reason):
    raise OSError(reason)


@writers
def test_a_pipe_a_device_or_a_folder_is_not_replaced_by_a_file(write, tmp_path, monkeypatch):
    if write is export:
        pytest.skip("it writes into a folder")
    monkeypatch.setattr(token_cache, "warn", _raise)  # a cache that can't be written ends no run
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link", "folder"):
        with pytest.raises(OSError, match=name):
            write(tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert names(tmp_path) == ["folder", "link", "pipe"]
