"""Exported models of strangers: whatever is wrong is said before memory is taken."""

import hashlib
import json
import resource

import pytest
import torch
from safetensors.torch import save_file

import tiegym
from tests.tiegym.small import SMALL
from tiegym.data import tokenization
from tiegym.transformer import tensor_file


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    env = tiegym.TieEnv(**SMALL)
    env.reset(seed=0)
    env.step(1)
    path = tmp_path_factory.mktemp("model") / "m"
    env.export(path)
    return path


def rewrite(exported, path, change):
    """The exported model with another content and the right checksum."""
    tensors, values = tensor_file.read_tensors(exported, "model")
    change(values, tensors)
    tensor_file.write_tensors(path, "model", tensors, values)


def shape(**changes):
    return lambda values, tensors: values["shape"].update(changes)


def value(**changes):
    return lambda values, tensors: values.update(changes)


HOSTILE = {
    "a trillion layers": shape(n_layer=10**12),
    "thirty thousand layers": shape(n_layer=30_000),
    "a huge width": shape(n_embd=2**31 - 2, n_head=1),
    "a width beyond integers": shape(n_embd=10**30),
    "no heads": shape(n_head=0),
    "heads that don't divide": shape(n_head=3),
    "a negative vocabulary": shape(vocab_size=-5),
    "another vocabulary": shape(vocab_size=300),
    "a context of text": shape(block_size="16"),
    "layers of a fraction": shape(n_layer=4.0),
    "layers of a truth": shape(n_layer=True),
    "an entry more": shape(__class__=1),
    "private parts that it has not": shape(private="norms"),
    "private parts of another name": shape(private="lora"),
    "private parts in another order": shape(private="scales+norms"),
    "a huge rank": shape(private="lora:999999999"),
    "a list for private parts": shape(private=["norms"]),
    "a number for private parts": shape(private=0),
    "a list for a shape": value(shape=[1, 2, 3, 4, 5]),
    "ties of text": value(ties="tied"),
    "ties beyond": value(ties=[0, 1, 7, 0]),
    "too few ties": value(ties=[0]),
    "no ties": value(ties=[]),
    "nested ties": value(ties=[[0], [1], [0], [0]]),
    "ties of huge integers": value(ties=[0, 10**30, 0, 0]),
    "ties of truths": value(ties=[False, True, False, False]),
    "other ties": value(ties=[0, 1, 2, 0]),
    "a gradient of text": value(tie_grad="x"),
    "a list for a gradient": value(tie_grad=["owner"]),
    "dropout above 1": value(dropout=1.5),
    "dropout of text": value(dropout="0.1"),
    "a function for a dtype": value(compute_dtype="load"),
    "a module for a dtype": value(compute_dtype="nn"),
    "an integer dtype": value(compute_dtype="int64"),
    "a list for a dtype": value(compute_dtype=["float32"]),
    "a number for a tokenizer": value(tokenizer=5),
    "no tokenizer": lambda values, tensors: values.pop("tokenizer"),
    "no shape": lambda values, tensors: values.pop("shape"),
    "no dtype": lambda values, tensors: values.pop("compute_dtype"),
    "values that are deep": value(tokenizer=json.loads("[" * 100 + "]" * 100)),
    "a tensor less": lambda values, tensors: tensors.pop("final_norm_bias"),
    "a tensor more": lambda values, tensors: tensors.update(x=torch.zeros(3)),
    "a tensor of another size": lambda v, t: t.update(final_norm_bias=torch.zeros(3)),
    "a tensor of another type": lambda v, t: t.update(final_norm_bias=torch.zeros(16).double()),
    "a tensor of integers": lambda v, t: t.update({n: x.long() for n, x in t.items()}),
    "a tensor of booleans": lambda v, t: t.update(final_norm_bias=torch.zeros(16).bool()),
    "no tensors": lambda values, tensors: tensors.clear(),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("load", [tiegym.load_model, tiegym.load_tokenizer])
def test_a_hostile_model_is_refused_in_words(exported, tmp_path, name, load):
    rewrite(exported, tmp_path / "m", HOSTILE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"m' (is damaged|has a tensor of type)"):
        load(tmp_path / "m")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KB


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "", "nan", "[]", '"text"', "1" * 5000, "{", "null"]
)
@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_hostile_json_is_refused_in_words(tmp_path, text, kind):
    header = {"tiegym": kind, "format": str(tensor_file.FORMAT), "values": text}
    header["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    save_file({}, tmp_path / "f", metadata=header)
    env = tiegym.TieEnv(**SMALL)
    load = tiegym.load_model if kind == "model" else env.load_checkpoint
    with pytest.raises(ValueError, match=r"is damaged: it(s values| has no)"):
        load(tmp_path / "f")


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "5",
        "{}",
        '{"name": 5, "tokenizer": null}',
        '{"name": "x", "tokenizer": 5}',
        '{"name": "x", "tokenizer": "{}"}',
        json.dumps({"name": "x", "tokenizer": "[" * 100_000}),
        json.dumps({"name": "x", "tokenizer": '{"model": {"type": "BPE", "vocab": 3}}'}),
    ],
)
def test_a_hostile_tokenizer_is_refused_in_words(exported, tmp_path, text):
    with pytest.raises(ValueError, match="this is no tokenizer that tiegym wrote"):
        tokenization.from_json(text)
    rewrite(exported, tmp_path / "m", value(tokenizer=text))
    with pytest.raises(ValueError, match="this is no tokenizer that tiegym wrote"):
        tiegym.load_tokenizer(tmp_path / "m")


def test_a_tokenizer_of_another_vocabulary_is_refused(exported, tmp_path):
    other = tokenization.make_tokenizer("word-9", "a b c d " * 99).to_json()
    rewrite(exported, tmp_path / "m", value(tokenizer=other))
    with pytest.raises(ValueError, match="tokens, its model 256"):
        tiegym.load_tokenizer(tmp_path / "m")


def test_content_is_not_read_before_it_is_known_to_fit(exported, monkeypatch, tmp_path):
    rewrite(exported, tmp_path / "m", shape(n_layer=3))
    monkeypatch.setattr(tensor_file, "_checksum", lambda *a: pytest.fail("content was read"))
    with pytest.raises(ValueError, match="ties="):
        tiegym.load_model(tmp_path / "m")
