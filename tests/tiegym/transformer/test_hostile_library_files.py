"""Exported models of `transformers` of strangers: what is wrong is said before memory is taken."""

import resource

import numpy as np
import pytest
import torch

import tiegym
from tests.tiegym.transformer.tiny import build
from tiegym.data.tokenization import make_tokenizer
from tiegym.transformer import tensor_file
from tiegym.transformer.library_file import head_of
from tiegym.transformer.model_file import export_model
from tiegym.transformer.pretrained import TiedPretrainedModel

TIES = [0, 0, 2, 2]
FIRST = "library.model.layers.0.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    tokenizer = make_tokenizer("word-37", "the cat sat on a mat " * 9)
    export_model(path, TiedPretrainedModel(build("llama"), np.array(TIES)), tokenizer)
    return path


def rewrite(exported, path, change):
    """The exported model with another content and the right checksum."""
    tensors, values = tensor_file.read_tensors(exported, "model")
    change(values, tensors)
    tensor_file.write_tensors(path, "model", tensors, values)


def value(**changes):
    return lambda values, tensors: values.update(changes)


def library(**changes):
    return lambda values, tensors: values["library"].update(changes)


def config(**changes):
    return lambda values, tensors: values["library"]["config"].update(changes)


HOSTILE = {
    "a trillion layers": config(num_hidden_layers=10**12),
    "thirty thousand layers": config(num_hidden_layers=30_000),
    "a layer more": config(num_hidden_layers=5),
    "a huge width": config(hidden_size=2**31 - 2, num_attention_heads=1),
    "a width beyond integers": config(hidden_size=10**30),
    "a huge vocabulary": config(vocab_size=2**31 - 1),
    "a hundred thousand heads": config(num_key_value_heads=100_000),
    "a width of text": config(hidden_size="16"),
    "a negative width": config(hidden_size=-16),
    "no heads": config(num_attention_heads=0),
    "an entry more": config(nonsense=1),
    "a method for an entry": config(to_dict=1),
    "code": config(auto_map={"AutoModelForCausalLM": "evil.Model"}),
    "code within": config(rope_parameters={"auto_map": {"AutoModel": "evil.Model"}}),
    "code for attention": config(attn_implementation="someone/kernel"),
    "code for attention, privately": config(_attn_implementation="someone/kernel"),
    "quantised": config(quantization_config={"quant_method": "awq"}),
    "another type": library(model_type="bert"),
    "a type that isn't": library(model_type="evil"),
    "a list for a type": library(model_type=["llama"]),
    "a class for a head": library(head="LlamaForCausalLM"),
    "a head that the type lacks": library(head="masked-lm"),
    "a list for a head": library(head=["causal-lm"]),
    "a list for a config": library(config=[1]),
    "a text for all": value(library="llama"),
    "no ties": value(ties=[]),
    "ties of text": value(ties="tied"),
    "ties beyond": value(ties=[0, 1, 7, 0]),
    "too few ties": value(ties=[0]),
    "twice as many ties": value(ties=[0, 0, 2, 2, 0, 0, 2, 3]),
    "three times as many ties": value(ties=[0, 0, 2, 2] * 3),
    "ties of huge integers": value(ties=[0, 10**30, 0, 0]),
    "other ties": value(ties=[0, 1, 2, 2]),
    "nested ties": value(ties=[[0], [1], [0], [0]]),
    "a gradient of text": value(tie_grad="x"),
    "a list for a gradient": value(tie_grad=["owner"]),
    "norms that are said to be private": value(private_norms=True),
    "a text for private norms": value(private_norms="norms"),
    "a function for a dtype": value(compute_dtype="load"),
    "a number for a tokenizer": value(tokenizer=5),
    "a tensor less": lambda values, tensors: tensors.pop(FIRST),
    "a tensor more": lambda values, tensors: tensors.update({"x": torch.ones(1)}),
    "another size": lambda values, tensors: tensors.update({FIRST: torch.ones(24, 17)}),
    "another type of numbers": lambda values, tensors: tensors.update(
        {FIRST: torch.ones(24, 16, dtype=torch.float64)}
    ),
    "integers": lambda values, tensors: tensors.update(
        {name: tensor.long() for name, tensor in tensors.items()}
    ),
    **{
        f"no {name}": lambda values, tensors, name=name: values.pop(name)
        for name in ("ties", "tie_grad", "compute_dtype", "tokenizer")
    },
    **{
        f"no {name} of the library": lambda values, tensors, name=name: values["library"].pop(name)
        for name in ("model_type", "head", "config")
    },
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_model_is_refused_in_words(exported, tmp_path, change):
    rewrite(exported, tmp_path / "m", change)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="is damaged: "):
        tiegym.load_model(tmp_path / "m")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_the_model_as_it_was_exported_is_read(exported, tmp_path):
    rewrite(exported, tmp_path / "m", lambda values, tensors: None)
    assert tiegym.load_model(tmp_path / "m").ties.tolist() == TIES


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(exported, tmp_path):
    words = " ".join(f"w{n}" for n in range(60))
    other = make_tokenizer("word-50", words).to_json()
    rewrite(exported, tmp_path / "m", value(tokenizer=other))
    with pytest.raises(ValueError, match="tokens, its model 37"):
        tiegym.load_tokenizer(tmp_path / "m")


def test_a_model_of_many_tied_layers_takes_the_memory_of_its_file(tmp_path):
    import transformers

    kind, entries = transformers.LlamaConfig, build("llama").config.to_dict()
    config = kind(**entries | {"num_hidden_layers": 64, "hidden_size": 256})
    config.intermediate_size = 2048
    with torch.device("meta"):
        library = transformers.LlamaForCausalLM(config)
    library.to_empty(device="cpu")  # no page of it is touched
    export_model(tmp_path / "m", TiedPretrainedModel(library, np.zeros(64, dtype=int)), None)
    size = (tmp_path / "m").stat().st_size
    model = tiegym.load_model(tmp_path / "m")
    held = {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()
    }
    assert sum(held.values()) < size
    for layer in model.library.model.layers:
        assert layer.mlp.up_proj.weight is model.library.model.layers[0].mlp.up_proj.weight


def test_a_model_without_an_output_layer_of_a_task_is_not_exported(tmp_path):
    library = build("llama").model
    with pytest.raises(ValueError, match="LlamaModel can't be exported"):
        head_of(library)
