"""Folders as people have them: splits by name, or dealt out, or a refusal that says why."""

import os
import socket

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.tiegym.data.written import lines, read, write
from tiegym.data.corpora import SPLITS, load_corpus

PARTS = {"train": 400, "validation": 40, "test": 40}


@pytest.mark.parametrize(
    "names",
    [
        ("wiki.train.raw", "wiki.valid.raw", "wiki.test.raw"),
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        ("train/a.txt", "validation/a.txt", "test/a.txt"),
        ("Train/a.txt", "Val/b.txt", "TEST/c.txt"),
        ("data/train_0.txt", "data/dev_0.txt", "data/eval_0.txt"),
        ("x/training/1/2.txt", "x/dev/3.txt", "x/evaluation/4.txt"),
        ("train", "valid", "test"),
        ("my-train.py", "my-valid.py", "my-test.py"),
    ],
)
def test_splits_under_their_usual_names_are_the_splits(tmp_path, names):
    written = {s: lines(s.upper(), PARTS[s]) for s in SPLITS}
    for split, name in zip(SPLITS, names, strict=True):
        write(tmp_path / name, written[split])
    write(tmp_path / "README.md", "a description")
    write(tmp_path / "LICENSE", "terms")
    assert read(tmp_path) == written


def test_a_folder_as_the_hub_has_it_keeps_its_splits(tmp_path):
    (tmp_path / "data").mkdir()
    for split, n in PARTS.items():
        rows = lines(split.upper(), n).splitlines()
        for k in range(2):
            path = tmp_path / f"data/{split}-0000{k}-of-00002.parquet"
            parquet.write_table(pa.table({"text": rows[k * n // 2 : (k + 1) * n // 2]}), path)
    assert read(tmp_path) == {s: lines(s.upper(), PARTS[s]) for s in SPLITS}


def test_what_datasets_saved_to_disk_keeps_its_splits(tmp_path):
    made = {
        s: datasets.Dataset.from_dict({"text": lines(s, PARTS[s]).splitlines()}) for s in SPLITS
    }
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "d"))
    assert read(tmp_path / "d") == {s: lines(s, PARTS[s]) for s in SPLITS}


def test_one_train_py_does_not_become_the_corpus(tmp_path):
    for k in range(12):
        write(tmp_path / f"src/module_{k}.py", f"# module {k}\n" * 400)
    write(tmp_path / "src/examples/train.py", "fit()\n" * 60)
    write(tmp_path / "src/tests/test_module.py", "assert fit()\n" * 60)
    there = sum(len(path.read_text()) for path in tmp_path.rglob("*.py"))
    assert sum(map(len, read(tmp_path).values())) == there


def test_pages_about_training_and_tests_are_no_splits(tmp_path):
    for name in ("index.md", "training.md", "testing/eval.html", "dev.rst"):
        write(tmp_path / name, lines(name))
    there = sum(f.stat().st_size for f in tmp_path.rglob("*.*"))
    assert sum(map(len, read(tmp_path).values())) == there


def test_a_folder_of_tests_is_source_code(tmp_path):
    for k in range(30):
        write(tmp_path / f"test_{k}.py", lines(f"assert {k}"))
    assert sum(map(len, read(tmp_path).values())) == 30 * len(lines("assert 00")) - 10 * 200


@pytest.mark.parametrize(
    "named", [("test.txt",), ("train.txt", "test.txt"), ("valid.jsonl",), ("train.txt",)]
)
def test_splits_beside_files_that_name_none_are_refused(tmp_path, named):
    for name in (*named, "notes.txt"):
        write(tmp_path / name, '{"text": "x"}\n' * 50)
    with pytest.raises(
        ValueError, match=r"some files are named for a split.*'notes.txt'.*name all"
    ):
        load_corpus(str(tmp_path))


def test_a_folder_of_test_files_alone_is_not_trained_on(tmp_path):
    write(tmp_path / "test.txt", lines("test"))
    with pytest.raises(ValueError, match=r"no training text.*'test.txt'.*its own path"):
        load_corpus(str(tmp_path))
    assert sum(map(len, read(tmp_path / "test.txt").values())) == len(lines("test"))


def test_a_name_that_means_two_splits_is_refused(tmp_path):
    for name in ("train.txt", "test/train.txt"):
        write(tmp_path / name, lines(name))
    with pytest.raises(ValueError, match=r"'test/train.txt' means train and test: rename"):
        load_corpus(str(tmp_path))


def test_a_picture_beside_texts_is_left_out_by_name(tmp_path):
    for k in range(30):
        write(tmp_path / f"{k}.txt", lines(str(k), 20))
    write(tmp_path / "logo.png", bytes(range(256)) * 40)
    with pytest.warns(UserWarning, match=r"logo.png is left out \(binary\)"):
        corpus = load_corpus(str(tmp_path))
    assert sum(corpus.n_bytes.values()) == sum(f.stat().st_size for f in tmp_path.glob("*.txt"))


@pytest.mark.parametrize("name", ["train.bin", "val.bin"])
def test_a_split_that_is_no_text_is_refused(tmp_path, name):
    write(tmp_path / "train.txt", lines("t"))
    write(tmp_path / name, bytes(range(256)) * 40)
    with pytest.raises(ValueError, match=rf"{name}'.*NUL bytes.*by its name it is for"):
        load_corpus(str(tmp_path))


def test_a_picture_beside_named_splits_is_left_out(tmp_path):
    for split in SPLITS:
        write(tmp_path / f"{split}.txt", lines(split))
    write(tmp_path / "logo.png", bytes(range(256)) * 40)
    with pytest.warns(UserWarning, match=r"logo.png is left out \(binary\)"):
        load_corpus(str(tmp_path))
    assert read(tmp_path) == {split: lines(split) for split in SPLITS}


def test_an_empty_split_is_not_made_up(tmp_path):
    write(tmp_path / "train.txt", lines("t"))
    write(tmp_path / "test.txt", "")
    with pytest.raises(ValueError, match=r"test.txt' is empty; it is for test"):
        load_corpus(str(tmp_path))


def test_what_only_sounds_like_a_description_is_text(tmp_path):
    write(tmp_path / "citations.jsonl", '{"text": "row"}\n' * 200)
    write(tmp_path / "README.md", "# Readme")
    assert "".join(read(tmp_path).values()) == "row\n" * 200


def test_a_folder_of_binary_files_is_refused(tmp_path):
    write(tmp_path / "a.png", bytes(range(256)) * 40)
    with pytest.raises(ValueError, match=r"without files of text: a.png is left out"):
        load_corpus(str(tmp_path))


def test_settings_in_json_do_not_refuse_a_folder_of_code(tmp_path):
    for k in range(30):
        write(tmp_path / f"{k}.js", lines(f"js{k}", 20))
    write(tmp_path / "package.json", '{"name": "x", "version": "1"}')
    with pytest.warns(UserWarning, match="package.json is read as it stands"):
        corpus = load_corpus(str(tmp_path))
    assert sum(corpus.n_bytes.values()) > len(lines("js1", 20)) * 30


def test_rows_beside_their_description_are_the_corpus(tmp_path):
    write(tmp_path / "a.jsonl", "".join(f'{{"text": "row {k}"}}\n' for k in range(300)))
    write(tmp_path / "README.md", "# Readme\n" * 60)
    write(tmp_path / "dataset_info.json", "{}")
    assert "".join(read(tmp_path).values()) == "".join(f"row {k}\n" for k in range(300))


def test_linked_folders_are_followed_once_and_loops_end(tmp_path):
    real = tmp_path / "real"
    write(real / "a.txt", lines("a"))
    corpus = tmp_path / "corpus"
    write(corpus / "own.txt", lines("own"))
    (corpus / "one").symlink_to(real)
    (corpus / "two").symlink_to(real)
    (corpus / "loop").symlink_to(corpus)
    (real / "back").symlink_to(corpus)
    assert sum(map(len, read(corpus).values())) == len(lines("a") + lines("own"))


def test_pipes_sockets_and_broken_links_neither_block_nor_pass_in_silence(tmp_path):
    write(tmp_path / "a.txt", lines("a"))
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "s"))
        with pytest.warns(UserWarning, match="gone.txt is left out.*pipe.txt.*s is left.*self"):
            corpus = load_corpus(str(tmp_path))
    assert sum(corpus.n_bytes.values()) == len(lines("a"))


def test_a_pipe_as_a_corpus_is_a_clear_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="neither a file nor a folder"):
        load_corpus(str(tmp_path / "pipe"))


def test_hidden_files_are_no_part_of_it(tmp_path):
    write(tmp_path / "a.txt", lines("a"))
    write(tmp_path / ".git/config", "secret")
    write(tmp_path / ".env", "secret")
    assert "".join(read(tmp_path).values()) == lines("a")


def test_a_folder_whose_files_are_empty_is_a_clear_error(tmp_path):
    write(tmp_path / "a.txt", "")
    with pytest.raises(ValueError, match=r"split .* would be empty"):
        load_corpus(str(tmp_path))


def test_names_that_are_not_utf8_are_names(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/M\xfcller")
    os.mkdir(folder)
    for k in range(30):
        with open(os.path.join(folder, f"{k}-" + os.fsdecode(b"\xfc")), "w") as file:
            file.write(lines(str(k), 20))
    corpus = load_corpus(folder, "bpe-300")
    assert corpus.name == folder
    assert sum(corpus.n_bytes.values()) == sum(len(lines(str(k), 20)) for k in range(30))


@pytest.mark.parametrize("how", ["link", "copy"])
def test_a_file_that_is_for_two_splits_by_its_content_is_refused(tmp_path, how):
    write(tmp_path / "train.txt", lines("a"))
    write(tmp_path / "valid.txt", lines("b"))
    if how == "link":
        (tmp_path / "test.txt").symlink_to(tmp_path / "train.txt")
    else:
        write(tmp_path / "test.txt", lines("a"))
    with pytest.raises(ValueError, match=r"train\.txt' and '.*test\.txt' are the same, but one is"):
        load_corpus(str(tmp_path))
    (tmp_path / "test.txt").unlink()
    load_corpus(str(tmp_path))
