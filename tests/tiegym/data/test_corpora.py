"""Corpora: where text comes from, splits that don't overlap, tokenizers, the cache."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiegym.data import hub, library_tokenizers, token_cache, tokenization
from tiegym.data.corpora import SPLITS, load_corpus, spread_windows, validate_corpus

LINES = [f"line {k} has the word w{k % 7}" for k in range(400)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def texts(corpus):
    return {s: corpus.tokenizer.decode(getattr(corpus, s)) for s in SPLITS}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def test_stdlib_is_source_text_of_this_interpreter_without_its_tests():
    corpus = load_corpus("stdlib")
    text = texts(corpus)
    assert len(corpus.train) > 2_000_000
    assert all(len(corpus.validation) > 100_000 < len(getattr(corpus, s)) for s in SPLITS)
    assert "import " in text["test"][:100_000]
    assert "def test_case_insensitive" not in text["train"]
    assert corpus.n_bytes == {s: len(getattr(corpus, s)) for s in SPLITS}


def test_synthetic_text_has_the_length_asked_for_and_is_always_the_same():
    first, second = load_corpus("synthetic:5000"), load_corpus("synthetic:5000")
    assert sum(len(getattr(first, s)) for s in SPLITS) == 5000
    assert first.sha256 == second.sha256
    assert load_corpus("synthetic:5001").sha256 != first.sha256


def test_a_text_file_is_cut_by_position(tmp_path):
    path = write(tmp_path / "a.txt", "".join(f"{k:04d}\n" for k in range(1000)))
    text = texts(load_corpus(path))
    assert "".join(text[s] for s in SPLITS) == Path(path).read_text()
    assert [len(text[s]) for s in SPLITS] == [4500, 250, 250]


def test_a_folder_is_split_by_whole_files_and_duplicates_are_dropped(tmp_path):
    for k in range(40):
        write(tmp_path / "c" / f"{k}.txt", f"unique text number {k // 2}\n" * 5)
    text = texts(load_corpus(str(tmp_path / "c")))
    owners = [next(s for s in SPLITS if f"number {k}\n" in text[s]) for k in range(20)]
    assert set(owners) == set(SPLITS)
    assert sum(text[s].count("number 3\n") for s in SPLITS) == 5


def test_files_named_like_splits_are_the_splits(tmp_path):
    for split in ("train", "valid", "test"):
        write(tmp_path / "c" / f"{split}.txt", f"this is {split}\n")
    write(tmp_path / "c" / "README.md", "not a split")
    assert texts(load_corpus(str(tmp_path / "c"))) == {
        "train": "this is train\n",
        "validation": "this is valid\n",
        "test": "this is test\n",
    }


def test_a_missing_split_comes_from_the_end_of_train(tmp_path):
    write(tmp_path / "c" / "train.txt", "a" * 1000)
    write(tmp_path / "c" / "test.txt", "b" * 50)
    text = texts(load_corpus(str(tmp_path / "c")))
    assert text == {"train": "a" * 951, "validation": "a" * 49 + "\n", "test": "b" * 50 + "\n"}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_tables_are_read_by_their_text_column_and_cut_between_rows(tmp_path, kind):
    table = datasets.Dataset.from_dict({"id": list(range(400)), "text": LINES})
    path = str(tmp_path / f"a.{kind}")
    {"jsonl": table.to_json, "csv": table.to_csv, "parquet": table.to_parquet}[kind](path)
    text = texts(load_corpus(path))
    assert "".join(text[s] for s in SPLITS) == "\n".join(LINES) + "\n"
    assert text["validation"].startswith("line 360 ")


def test_a_table_without_a_clear_text_column_names_its_columns(tmp_path):
    path = write(tmp_path / "a.csv", "one,two\nx,y\nz,w\n")
    with pytest.raises(ValueError, match=r"needs a column 'text'.*one, two"):
        load_corpus(path)


@pytest.mark.parametrize("content", ["{broken", '{"text": 1'])
def test_a_damaged_table_is_a_clear_error(tmp_path, content):
    path = write(tmp_path / "a.jsonl", content)
    with pytest.raises(ValueError, match="can't be read as json"):
        load_corpus(path)


def test_a_data_set_of_the_hub_keeps_its_splits(monkeypatch):
    made = datasets.DatasetDict(
        {
            "train": datasets.Dataset.from_dict({"sentence": LINES[:300]}),
            "test": datasets.Dataset.from_dict({"sentence": LINES[300:]}),
        }
    )
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append(a) or made)
    monkeypatch.setattr(hub, "is_reachable", lambda: True)
    text = texts(load_corpus("hf:some/thing:part"))
    assert asked == [("some/thing", "part")]
    assert text["test"] == "\n".join(LINES[300:]) + "\n"
    assert text["train"] + text["validation"] == "\n".join(LINES[:300]) + "\n"


@pytest.mark.parametrize("name", ["wikitext-2", "tiny-shakespeare", "hf:some/thing"])
def test_without_a_network_the_error_names_the_corpus_and_the_way_out(name, monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "none")
    with pytest.raises(OSError, match=rf"corpus='{name}' could not be loaded.*path of a local"):
        load_corpus(name)
    assert not datasets.config.HF_HUB_OFFLINE


def test_gpt2_without_a_network_says_how_to_bring_it(monkeypatch):
    monkeypatch.setattr(hub, "is_reachable", lambda: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent")
    with pytest.raises(OSError, match=r"tokenizer='gpt2' could not be loaded.*tokenizer\.json"):
        tokenization.make_tokenizer("gpt2", "")


@pytest.mark.parametrize("text", ["hello\n\n world\t!", "héllo 😀 \0 end", "x" * 300])
@pytest.mark.parametrize("name", ["bytes", "bpe-300"])
def test_bytes_and_bpe_lose_nothing(name, text):
    tokenizer = tokenization.make_tokenizer(name, "\n".join(LINES))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode(text).max() < tokenizer.vocab_size


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_bpe_and_json(text):
    tokenizer = tokenization.from_json(_BPE.to_json())
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.byte_lengths()[tokens].sum() == len(text.encode())


_BPE = tokenization.make_tokenizer("bpe-300", "\n".join(LINES))


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe-300"])
def test_bytes_are_counted_of_the_tokens_that_are_read(tokenizer, tmp_path):
    text = "aaaa " * 200 + "héllo wörld " * 400  # the beginning isn't like the rest
    (tmp_path / "a.txt").write_text(text)
    corpus = load_corpus(str(tmp_path / "a.txt"), tokenizer)
    ((start, length),) = spread_windows(len(corpus.train) - 1, 300, 300)
    tokens = corpus.train[start + 1 : start + 1 + length]
    expected = len(corpus.tokenizer.decode(tokens).encode()) / 300
    assert corpus.bytes_per_token("train", 300) == pytest.approx(expected)
    everything = corpus.bytes_per_token("train")
    assert everything == corpus.n_bytes["train"] / len(corpus.train)
    assert (everything != expected) == (tokenizer == "bpe-300")


def test_where_words_are_tokens_their_bytes_are_those_of_the_whole_split(tmp_path):
    (tmp_path / "a.txt").write_text("one two three\n" * 100)
    corpus = load_corpus(str(tmp_path / "a.txt"), "word")
    assert corpus.tokenizer.byte_lengths() is None
    assert corpus.bytes_per_token("test", 3) == corpus.bytes_per_token("test")


def test_bpe_has_the_vocabulary_asked_for_and_compresses():
    tokens = _BPE.encode("\n".join(LINES))
    assert _BPE.vocab_size == 300
    assert len(tokens) < 0.7 * len("\n".join(LINES))


def test_long_texts_are_encoded_in_pieces_without_a_difference(monkeypatch):
    text = "\n".join(LINES)
    whole = _BPE.encode(text)
    monkeypatch.setattr(library_tokenizers, "PIECE", 50)
    assert _BPE.decode(_BPE.encode(text)) == text
    assert len(_BPE.encode(text)) == pytest.approx(len(whole), rel=0.05)


def test_every_word_id_is_below_the_vocabulary_size_where_the_text_itself_marks_unknown_words(
    tmp_path,
):
    path = write(tmp_path / "a.txt", "one <unk> two three <unk> four\n" * 200)
    for tokenizer in ("word", "word-4"):
        corpus = load_corpus(path, tokenizer)
        assert max(corpus.train) < corpus.vocab_size


def test_words_keep_lines_and_mark_rare_words():
    tokenizer = tokenization.make_tokenizer("word-5", "a a a b b b c c\n\nd")
    assert tokenizer.vocab_size == 5
    assert tokenizer.decode(tokenizer.encode("a b\nzebra a")) == "a b\n<unk> a"


def test_a_tokenizer_is_trained_on_the_training_split_alone(tmp_path):
    for split, word in (("train", "apple"), ("valid", "berry"), ("test", "citrus")):
        write(tmp_path / "c" / f"{split}.txt", f"{word} " * 50)
    text = texts(load_corpus(str(tmp_path / "c"), "word"))
    assert set(text["validation"].split()) == {"<unk>"}
    assert set(text["train"].split()) == {"apple"}


def test_a_tokenizer_file_can_be_given_and_its_content_counts(tmp_path):
    path = write(tmp_path / "t.json", json.loads(_BPE.to_json())["tokenizer"])
    first = load_corpus("synthetic:2000", path)
    assert first.vocab_size == 300
    other = tokenization.make_tokenizer("bpe-280", "zz" * 50 + "\n".join(LINES))
    write(tmp_path / "t.json", json.loads(other.to_json())["tokenizer"])
    assert load_corpus("synthetic:2000", path).vocab_size == 280
    write(tmp_path / "t.json", "{}")
    with pytest.raises(ValueError, match="damaged or no tokenizer"):
        load_corpus("synthetic:2000", path)


@pytest.mark.parametrize(
    "content", [b"", b"\r\n\x7f\x01" * 60, b"\n" * 200, b"z" * 10_000_000, b"a"]
)
@pytest.mark.parametrize("tokenizer", ["bytes", "word"])
def test_awkward_text_loads_or_is_a_clear_error(tmp_path, content, tokenizer):
    path = write(tmp_path / "a.txt", content)
    if len(content) < 20:
        with pytest.raises(ValueError, match=r"split .* would be empty"):
            load_corpus(path, tokenizer)
    else:
        corpus = load_corpus(path, tokenizer)
        assert all(corpus.n_bytes[s] > 0 for s in SPLITS)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nonsense", ValueError, "corpus='nonsense' is unknown: choose stdlib, wikitext-2"),
        ("./nothing", FileNotFoundError, "there is no such file or folder"),
        ("nothing.txt", FileNotFoundError, "there is no such file or folder"),
        ("synthetic:0", ValueError, "synthetic:N with N >= 1"),
        ("synthetic:many", ValueError, "synthetic:N with N >= 1"),
        ("hf:", ValueError, "hf:ID or hf:ID:CONFIG"),
    ],
)
def test_a_wrong_corpus_is_refused_before_anything_is_read(name, error, message):
    with pytest.raises(error, match=message):
        validate_corpus(name)


@pytest.mark.parametrize("name", ["bpe", "bpe-256", "bpe-x", "word-1", "words", "", "no.json"])
def test_a_wrong_tokenizer_is_refused_before_anything_is_read(name):
    with pytest.raises((ValueError, FileNotFoundError), match="tokenizer="):
        tokenization.validate_tokenizer(name)


def test_an_empty_folder_is_a_clear_error(tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match="folder without files"):
        load_corpus(str(tmp_path / "c"))


def cached(tmp_path):
    return sorted((tmp_path / "cache" / "tiegym").iterdir())


def test_tokens_are_cached_and_used_again(tmp_path, monkeypatch):
    first = load_corpus("synthetic:3000", "bpe-300")
    assert len(cached(tmp_path)) == 1
    monkeypatch.setattr(tokenization, "make_tokenizer", None)  # must not be needed
    again = load_corpus("synthetic:3000", "bpe-300")
    assert again.train.tobytes() == first.train.tobytes()
    assert again.tokenizer.decode(again.test) == first.tokenizer.decode(first.test)


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign", "empty"])
def test_a_damaged_cache_is_rebuilt(tmp_path, damage):
    first = load_corpus("synthetic:3000", "bpe-300")
    (path,) = cached(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[-5] ^= 1
    path.write_bytes(
        {"truncate": content[:-9], "flip": content, "foreign": b"hello" * 9, "empty": b""}[damage]
    )
    again = load_corpus("synthetic:3000", "bpe-300")
    assert again.train.tobytes() == first.train.tobytes()
    assert token_cache.read(path) is not None
    assert cached(tmp_path) == [path]


def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", write(tmp_path / "file", "not a folder"))
    with pytest.warns(UserWarning, match="can't be cached"):
        corpus = load_corpus("synthetic:3000", "bpe-300")
    assert len(corpus.train) > 0


def test_an_exception_leaves_no_half_written_file(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        load_corpus("synthetic:3000", "bpe-300")
    assert cached(tmp_path) == []


def test_processes_share_a_cold_cache(tmp_path):
    code = (
        "from tiegym.data.corpora import load_corpus; import hashlib;"
        "c = load_corpus('synthetic:20000', 'bpe-300');"
        "print(hashlib.sha256(c.train.tobytes()).hexdigest())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = {process.communicate()[0] for process in running}
    assert all(process.returncode == 0 for process in running)
    assert len(outputs) == 1
    assert len(cached(tmp_path)) == 1


def test_the_smallest_type_holds_the_tokens():
    assert load_corpus("synthetic:3000").train.dtype == np.uint8
    assert load_corpus("synthetic:3000", "bpe-300").train.dtype == np.uint16
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_corpus("synthetic:3000", "bpe-300")
