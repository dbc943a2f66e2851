"""The cache of tokens: verified as a whole, never needed."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from tiegym import atomic_write
from tiegym.data import token_cache
from tiegym.data.corpora import load_corpus
from tiegym.data.token_cache import TokenizedText


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tiegym"


def the_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_a_bit_flipped_anywhere_is_noticed(folder):
    first = load_corpus("synthetic:3000", "bpe-300")
    path = the_file(folder)
    whole = path.read_bytes()
    places = np.random.default_rng(0).integers(8, len(whole), size=150)
    for place in [*places.tolist(), whole.index(b"merges") + 20, whole.index(b"vocab") + 20]:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        stored = token_cache.read(path)
        # What is left unnoticed is white space between values, which says nothing.
        assert stored is None or stored.tokenizer == token_cache_of(first, stored).tokenizer
    again = load_corpus("synthetic:3000", "bpe-300")
    assert again.tokenizer.to_json() == first.tokenizer.to_json()
    assert again.train.tobytes() == first.train.tobytes()


def token_cache_of(corpus, stored) -> TokenizedText:
    assert all(stored.splits[s].tobytes() == getattr(corpus, s).tobytes() for s in stored.splits)
    return TokenizedText(stored.splits, corpus.tokenizer.to_json())


def test_a_cache_of_the_former_format_is_made_anew(folder):
    first = load_corpus("synthetic:3000", "bpe-300")
    path = the_file(folder)
    with safe_open(path, framework="numpy") as file:
        header = file.metadata()
    save_file(load_file(path), path, metadata=header | {"format": "1"})
    assert token_cache.read(path) is None
    assert load_corpus("synthetic:3000", "bpe-300").sha256 == first.sha256
    assert token_cache.read(path) is not None


@pytest.mark.parametrize("damage", ["beyond", "type", "missing", "tokenizer"])
def test_tokens_that_are_not_the_tokenizers_are_made_anew(folder, damage):
    first = load_corpus("synthetic:3000", "bpe-300")
    path = the_file(folder)
    stored = token_cache.read(path)
    splits = {split: tokens.copy() for split, tokens in stored.splits.items()}
    tokenizer = stored.tokenizer
    if damage == "beyond":
        splits["validation"][3] = first.vocab_size
    elif damage == "type":
        splits["train"] = splits["train"].astype(np.uint32)
    elif damage == "missing":
        del splits["test"]
    else:
        tokenizer = "{}"
    token_cache.write(path, TokenizedText(splits, tokenizer))  # with a checksum that is right
    again = load_corpus("synthetic:3000", "bpe-300")
    assert again.validation.tobytes() == first.validation.tobytes()
    assert again.train.dtype == first.train.dtype


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_takes_nothing_is_one_warning(folder, monkeypatch, number):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic_write.os, "replace", fail)
    with pytest.warns(UserWarning, match="can't be cached.*set XDG_CACHE_HOME") as caught:
        corpus = load_corpus("synthetic:3000", "bpe-300")
    assert len(caught) == 1
    assert len(corpus.train) > 0
    assert list(folder.iterdir()) == []


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(folder):
    folder.mkdir()
    for name in (".tokens-a.safetensors.0123.tmp", ".tokens-b.safetensors.4567.tmp", "other.tmp"):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (1, 1))
    os.utime(folder / ".tokens-b.safetensors.4567.tmp")
    load_corpus("synthetic:3000", "bpe-300")
    left = {path.name for path in folder.iterdir() if path.suffix == ".tmp"}
    assert left == {".tokens-b.safetensors.4567.tmp", "other.tmp"}


PROGRAM = """
import resource, sys
from pathlib import Path
if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
from tiegym.data.corpora import load_corpus
for tokenizer in ("bpe-300", "word"):
    print(len(load_corpus("synthetic:30000", tokenizer).train))
Path("a.csv").exists() and print(len(load_corpus("a.csv").train))
"""


@pytest.mark.parametrize("case", ["no home", "home is a file", "cache is a file", "full"])
def test_programs_go_on_without_a_cache(tmp_path, case):
    (tmp_path / "a.csv").write_text("text\n" + "row\n" * 200)
    (tmp_path / "file").write_text("")
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    if case == "home is a file":
        environment["HOME"] = str(tmp_path / "file")
    elif case == "cache is a file":
        environment["XDG_CACHE_HOME"] = str(tmp_path / "file")
    elif case == "full":
        environment["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    program = PROGRAM
    if case == "no home":  # nor one in the list of users
        program = "import pwd\npwd.getpwuid = {}.__getitem__\n" + PROGRAM
    done = subprocess.run(
        [sys.executable, "-c", program, case],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 3
    assert done.stderr.count("can't be cached") == 1 or case == "full"  # each file has its reason
    assert "set XDG_CACHE_HOME" in done.stderr


def test_numbers_of_a_kind_that_numpy_has_not_are_made_anew(tmp_path):
    header = json.dumps({"train": {"dtype": "F8_E5M2", "shape": [2], "data_offsets": [0, 2]}})
    content = len(header).to_bytes(8, "little") + header.encode() + b"ab"
    (tmp_path / "t.safetensors").write_bytes(content)
    assert token_cache.read(tmp_path / "t.safetensors") is None
