"""Special tokens, truncation and padding."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from tiegym.data.tasks.text_encoding import cut_longest, text_encoder
from tiegym.data.tokenization import make_tokenizer

TEXT = "the cat sat on the mat and the dog ran off with it "


def of_file(tmp_path, special, template=None, text=TEXT):
    """The encoder of a tokenizer.json of words."""
    vocabulary = {
        word: number for number, word in enumerate([*special, *dict.fromkeys(text.split())])
    }
    inner = Library(models.WordLevel(vocabulary, unk_token=special[0]))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.add_special_tokens(special)
    if template:
        inner.post_processor = processors.TemplateProcessing(
            single=template[0],
            pair=template[1],
            special_tokens=[(name, vocabulary[name]) for name in special],
        )
    inner.save(str(tmp_path / "tokenizer.json"))
    return text_encoder(make_tokenizer(str(tmp_path / "tokenizer.json"), text), text)


@pytest.mark.parametrize("name", ["bytes", "bpe-300", "word"])
def test_special_tokens_have_the_ids_above_the_vocabulary(name):
    tokenizer = make_tokenizer(name, TEXT * 9)
    encoder = text_encoder(tokenizer, TEXT)
    n = tokenizer.vocab_size
    assert (encoder.pad, encoder.mask, encoder.vocab_size) == (n, n + 3, n + 4)
    assert encoder.single.before == encoder.pair.before == (n + 1,)
    assert encoder.single.behind == encoder.pair.behind == encoder.pair.between == (n + 2,)
    assert encoder.tokens([TEXT]) == [tokenizer.encode(TEXT).tolist()]


def test_where_ids_have_gaps_no_special_token_takes_a_words_id():
    tokenizer = make_tokenizer("word", "a b <unk> c <unk> d " * 3)
    assert tokenizer.vocab_size > len(tokenizer.to_library().get_vocab()) - 1
    encoder = text_encoder(tokenizer, "a b")
    assert encoder.pad == tokenizer.vocab_size > max(tokenizer.to_library().get_vocab().values())


@pytest.mark.parametrize("name", ["bytes", "bpe-300"])
def test_a_text_that_spells_a_special_token_stays_text(name):
    tokenizer = make_tokenizer(name, TEXT * 9)
    ids = text_encoder(tokenizer, TEXT).tokens(["[MASK] [SEP]"])[0]
    assert max(ids) < tokenizer.vocab_size


def test_a_files_own_special_tokens_and_frames_are_used(tmp_path):
    special = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    encoder = of_file(tmp_path, special, ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"))
    assert (encoder.pad, encoder.mask) == (1, 4)
    assert encoder.vocab_size == encoder.tokenizer.vocab_size
    assert (encoder.pair.before, encoder.pair.between, encoder.pair.behind) == ((2,), (3,), (3,))
    assert encoder.second_type == 1
    assert 4 not in encoder.tokens(["[MASK] cat"])[0]


def test_frames_of_robertas_kind_have_two_tokens_between_and_one_type(tmp_path):
    special = ["<unk>", "<pad>", "<s>", "</s>", "<mask>"]
    encoder = of_file(tmp_path, special, ("<s> $A </s>", "<s> $A </s> </s> $B </s>"))
    assert encoder.pair.between == (3, 3)
    assert encoder.second_type == 0
    rows = encoder.rows(["the cat"], ["the dog"], block_size=10)
    the, cat, dog = (encoder.tokens([w])[0][0] for w in ("the", "cat", "dog"))
    assert rows["ids"].tolist() == [[2, the, cat, 3, 3, the, dog, 3, 1, 1]]
    assert "token_type_ids" not in encoder.inputs({k: torch.from_numpy(v) for k, v in rows.items()})


WORDS = {
    "Bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "dog", "."],
    "Roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"thecasdog.", "Ġ", "th", "the"],
}


@pytest.mark.parametrize("kind", WORDS)
def test_rows_of_a_pretrained_models_tokenizer_are_those_of_transformers(tmp_path, kind):
    transformers = pytest.importorskip("transformers")
    words = {word: number for number, word in enumerate(dict.fromkeys(WORDS[kind]))}
    more = {"merges": [("t", "h"), ("th", "e")]} if kind == "Roberta" else {}
    theirs = getattr(transformers, f"{kind}TokenizerFast")(vocab=words, **more)
    theirs.save_pretrained(tmp_path)
    texts = ["The cats sat.", "the dog", "[MASK] <mask>"]
    encoder = text_encoder(make_tokenizer(str(tmp_path / "tokenizer.json"), texts[1]), texts[1])
    assert (encoder.pad, encoder.mask) == (theirs.pad_token_id, theirs.mask_token_id)
    assert encoder.vocab_size == len(theirs)
    for seconds, size in ((None, 6), (None, 30), (texts[::-1], 60)):
        expected = theirs(
            texts,
            seconds,
            padding="max_length",
            truncation=True,
            max_length=size,
            split_special_tokens=True,
            return_tensors="pt",
        )
        columns = encoder.rows(texts, seconds, size)
        inputs = encoder.inputs({k: torch.from_numpy(v) for k, v in columns.items()})
        for name, tensor in inputs.items():
            assert torch.equal(tensor, expected[name]), (name, size)


def test_a_file_without_special_tokens_gets_those_that_it_lacks(tmp_path):
    encoder = of_file(tmp_path, ["<|endoftext|>"])
    n = encoder.tokenizer.vocab_size
    assert (encoder.pad, encoder.mask, encoder.vocab_size) == (n, n + 3, n + 4)
    begin = of_file(tmp_path, ["<unk>", "<bos>"], ("<bos> $A", "<bos> $A <bos>:1 $B:1"))
    n = begin.tokenizer.vocab_size
    assert (begin.pad, begin.mask, begin.vocab_size) == (n, n + 1, n + 2)  # its frame needs no more
    assert (begin.single.before, begin.single.behind) == ((1,), ())


def test_rows_are_framed_and_filled_up():
    encoder = text_encoder(make_tokenizer("bytes", ""), "a")
    inputs = encoder.inputs(
        {k: torch.from_numpy(v) for k, v in encoder.rows(["ab", ""], None, block_size=6).items()}
    )
    assert inputs["input_ids"].tolist() == [
        [257, 97, 98, 258, 256, 256],
        [257, 258, 256, 256, 256, 256],
    ]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]]
    assert "token_type_ids" not in inputs


def test_a_pair_that_is_too_long_loses_the_ends_of_the_longer_one_first():
    encoder = text_encoder(make_tokenizer("bytes", ""), "a")
    columns = encoder.rows(["abcdefgh", "ab"], ["xy", "uvwxyz"], block_size=8)
    inputs = encoder.inputs({k: torch.from_numpy(v) for k, v in columns.items()})
    cls, sep = 257, 258
    assert inputs["input_ids"].tolist() == [
        [cls, *b"abc", sep, *b"xy", sep],
        [cls, *b"ab", sep, *b"uvw", sep],
    ]
    assert inputs["token_type_ids"].tolist() == [[0] * 5 + [1] * 3, [0] * 4 + [1] * 4]


def test_cutting_keeps_all_of_the_room_and_nothing_more():
    for first, second, room in np.random.default_rng(0).integers(0, 12, size=(300, 3)):
        a, b = cut_longest(first, second, room)
        assert 0 <= a <= first
        assert 0 <= b <= second
        assert a + b == min(first + second, room)
        if a < first and b < second:
            assert abs(a - b) <= 1


def test_a_block_without_room_for_text_is_an_error():
    encoder = text_encoder(make_tokenizer("bytes", ""), "a")
    with pytest.raises(ValueError, match="block_size=2 has no room for text beside 2 special"):
        encoder.rows(["a"], None, block_size=2)
    with pytest.raises(ValueError, match="block_size=4 has no room for text beside 3 special"):
        encoder.rows(["a"], ["b"], block_size=4)
