"""A tokenizer.json as others saved it: settings of another use, gaps, damage, hostile values."""

import json

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.tiegym.data.written import lines, texts, write
from tiegym.data import tokenization
from tiegym.data.corpora import SPLITS, load_corpus
from tiegym.data.library_tokenizers import as_value_errors

TEXT = lines("The quick brown fox", 3000)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def byte_level() -> Tokenizer:
    trained = tokenization.make_tokenizer("bpe-300", TEXT)
    return Tokenizer.from_str(json.loads(trained.to_json())["tokenizer"])


def truncated(inner):
    inner.enable_truncation(128, stride=3)


def padded(inner):
    inner.enable_padding(pad_id=0, pad_token="!")


def padded_to_a_length(inner):
    inner.enable_padding(pad_id=0, pad_token="!", length=40_000)


def with_special_tokens(inner):
    inner.post_processor = processors.TemplateProcessing(single="! $A !", special_tokens=[("!", 0)])


def with_dropout(inner):
    inner.model.dropout = 0.5


def both(inner):
    truncated(inner)
    padded(inner)


SETTINGS = [truncated, padded, padded_to_a_length, with_special_tokens, with_dropout, both]


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_another_use_change_no_token(tmp_path, setting):
    corpus_path = write(tmp_path / "a.txt", TEXT)
    inner = byte_level()
    inner.save(str(tmp_path / "plain.json"))
    setting(inner)
    inner.save(str(tmp_path / "set.json"))
    plain = load_corpus(str(corpus_path), str(tmp_path / "plain.json"))
    found = load_corpus(str(corpus_path), str(tmp_path / "set.json"))
    assert "".join(texts(found).values()) == TEXT
    for split in SPLITS:
        assert getattr(found, split).tolist() == getattr(plain, split).tolist()
    again = tokenization.from_json(found.tokenizer.to_json())  # as exported models keep it
    assert again.encode(TEXT).tolist() == plain.tokenizer.encode(TEXT).tolist()


def without_unknown() -> Tokenizer:
    letters = {chr(97 + k): k for k in range(10)}
    return Tokenizer(models.BPE(vocab=letters, merges=[]))


def that_deletes() -> Tokenizer:
    inner = byte_level()
    inner.normalizer = normalizers.Replace(Regex("[a-m]"), "")
    return inner


def of_letters_alone() -> Tokenizer:
    inner = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("[^a-e]"), "removed")
    return inner


@pytest.mark.parametrize("make", [without_unknown, that_deletes, of_letters_alone])
def test_a_tokenizer_that_drops_text_is_refused(tmp_path, make):
    make().save(str(tmp_path / "t.json"))
    path = str(write(tmp_path / "a.txt", TEXT))
    with pytest.raises(ValueError, match=r"t.json' drops \d+ of the text's first .*such as"):
        load_corpus(path, str(tmp_path / "t.json"))


def test_unknown_words_lower_case_and_white_space_are_no_loss(tmp_path):
    inner = Tokenizer(models.WordLevel({"?": 0, "the": 1}, unk_token="?"))
    inner.normalizer = normalizers.Lowercase()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.decoder = decoders.WordPiece()
    inner.save(str(tmp_path / "t.json"))
    corpus = load_corpus(str(write(tmp_path / "a.txt", TEXT)), str(tmp_path / "t.json"))
    assert set(corpus.train.tolist()) == {0, 1}


def test_what_it_cannot_encode_is_a_clear_error(tmp_path):
    Tokenizer(models.WordLevel({"a": 0})).save(str(tmp_path / "t.json"))
    with pytest.raises(ValueError, match=r"t.json'.*\[UNK\]"):
        load_corpus("synthetic:2000", str(tmp_path / "t.json"))


def word_level(vocabulary: str) -> str:
    return f'{{"model": {{"type": "WordLevel", "vocab": {vocabulary}, "unk_token": "a"}}}}'


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"model":' * 100_000,
        word_level('{"a": 99999999999999999999}'),
        word_level('{"a": 4000000000}'),
        word_level('{"a": 0, "b": 20000000}'),
        word_level("{}"),
        word_level('{"a": -1}'),
        "null",
        b"\xff\xfe\0",
        b"",
    ],
)
def test_hostile_files_are_refused_before_memory_is_taken(tmp_path, content):
    path = write(tmp_path / "t.json", content)
    with pytest.raises(ValueError, match=r"tokenizer='.*t.json'"):
        tokenization.make_tokenizer(str(path), TEXT)


@pytest.mark.parametrize("name", ["bpe-99999999999999999999", "word-20000000", "bpe-" + "9" * 5000])
def test_hostile_sizes_are_refused(name):
    with pytest.raises(ValueError, match="and at most 16,777,216"):
        tokenization.validate_tokenizer(name)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name": "x", "tokenizer": 3}', "3", "{}", ""])
def test_what_tiegym_did_not_write_is_refused(text):
    with pytest.raises(ValueError, match="no tokenizer that tiegym wrote"):
        tokenization.from_json(text)


def test_the_hash_of_a_tokenizer_is_that_of_its_content(tmp_path):
    byte_level().save(str(tmp_path / "a.json"))
    byte_level().save(str(tmp_path / "b.json"))
    first, same = (tokenization.make_tokenizer(str(tmp_path / f"{n}.json"), "") for n in "ab")
    other = tokenization.make_tokenizer("bpe-280", TEXT)
    assert first.sha256 == same.sha256 != other.sha256
    assert other.sha256 != tokenization.make_tokenizer("bytes", "").sha256


BEYOND = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": None,
    "post_processor": None,
    "decoder": None,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]},
}
"""A merge whose token is in no vocabulary: the library doesn't raise, it panics."""


def test_what_makes_the_library_panic_is_an_error_that_names_the_tokenizer(tmp_path):
    path = write(tmp_path / "t.json", json.dumps(BEYOND))
    with pytest.raises(ValueError, match=r"tokenizer='.*t.json' is damaged or no tokenizer"):
        tokenization.make_tokenizer(str(path), TEXT)
    fixed = {**BEYOND, "pre_tokenizer": {"type": "FixedLength", "length": 0}}
    fixed["model"] = {"type": "WordLevel", "vocab": {"a": 0, "<unk>": 1}, "unk_token": "<unk>"}
    path = write(tmp_path / "u.json", json.dumps(fixed))
    with pytest.raises(ValueError, match=r"tokenizer='.*u.json'"):
        tokenization.make_tokenizer(str(path), TEXT)


def test_a_stop_is_no_error_of_the_library():
    with pytest.raises(KeyboardInterrupt), as_value_errors("x"):
        raise KeyboardInterrupt
