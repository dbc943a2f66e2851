"""The folder for `transformers`: loads there, and means the same in a plain GPT-2."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from tiegym.data.tokenization import make_tokenizer
from tiegym.ties import pattern
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.gpt2_export import export_gpt2

TEXT = "the old cat sees a tree.\nsome dogs chase the bird, naïvely, \x00\x7f\xad!\n"


@pytest.fixture(params=["bytes", "bpe-300"])
def tokenizer(request):
    return make_tokenizer(request.param, TEXT)


@pytest.fixture(params=["none", "norms", "scales", "lora:2", "norms+scales+lora:3"])
def model(tokenizer, request):
    """Weights at which a mistake in any of them shows in the logits."""
    shape = Shape(tokenizer.vocab_size, 4, 2, n_embd=8, block_size=12, private=request.param)
    transformer = TiedTransformer(shape, pattern("cycle:2", 4), dropout=0.1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in transformer.parameters():
            p.normal_(0, 0.4, generator=generator)
    return transformer.eval()


@pytest.fixture
def tokens(model):
    return torch.randint(
        model.shape.vocab_size, (3, 12), generator=torch.Generator().manual_seed(1)
    )


def plain_gpt2(config, w, tokens):
    """GPT-2 as its paper and `transformers` have it, in formulas; logits (B, T, V)."""

    def norm(x, name):
        x = x - x.mean(-1, keepdim=True)
        x = x / torch.sqrt((x**2).mean(-1, keepdim=True) + config["layer_norm_epsilon"])
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def conv1d(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu_new(x):
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    length, head = tokens.shape[1], config["n_embd"] // config["n_head"]
    x = w["transformer.wte.weight"][tokens] + w["transformer.wpe.weight"][:length]
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    for layer in range(config["n_layer"]):
        name = f"transformer.h.{layer}"
        q, k, v = conv1d(norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn").chunk(3, dim=-1)
        heads = []
        for q_h, k_h, v_h in zip(*(m.split(head, -1) for m in (q, k, v)), strict=True):
            scores = (q_h @ k_h.transpose(1, 2) / math.sqrt(head)).masked_fill(future, -math.inf)
            heads.append(scores.softmax(-1) @ v_h)
        x = x + conv1d(torch.cat(heads, -1), f"{name}.attn.c_proj")
        h = gelu_new(conv1d(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc"))
        x = x + conv1d(h, f"{name}.mlp.c_proj")
    return norm(x, "transformer.ln_f") @ w["transformer.wte.weight"].T


def test_the_written_tensors_give_a_plain_gpt2_the_same_logits(model, tokenizer, tokens, tmp_path):
    export_gpt2(model, tokenizer, tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    tensors = load_file(tmp_path / "hf/model.safetensors")
    with torch.no_grad():
        logits = model(tokens)
        assert logits.std() > 0.3  # thousands of times what may differ
        assert torch.allclose(plain_gpt2(config, tensors, tokens), logits, atol=1e-4)
    assert config["activation_function"] == "gelu_new"
    assert config["n_positions"] == 12
    assert config["bos_token_id"] is None
    assert {config[f"{part}_pdrop"] for part in ("embd", "attn", "resid")} == {0.1}


def test_transformers_loads_the_folder_with_the_same_logits(model, tokenizer, tokens, tmp_path):
    import transformers

    export_gpt2(model, tokenizer, tmp_path / "hf")
    theirs, info = transformers.GPT2LMHeadModel.from_pretrained(
        tmp_path / "hf", output_loading_info=True
    )
    assert not any(info.values()), info  # nothing missing, nothing left over
    assert theirs.config.bos_token_id is None
    assert theirs.lm_head.weight is theirs.transformer.wte.weight
    with torch.no_grad():
        assert torch.allclose(theirs.eval()(tokens).logits, model(tokens), atol=1e-4)
    automatic = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert automatic(TEXT)["input_ids"] == tokenizer.encode(TEXT).tolist()
    assert automatic.decode(automatic(TEXT)["input_ids"]) == TEXT


def test_transformers_loads_weights_in_the_dtype_in_which_they_were_trained(tokenizer, tmp_path):
    import transformers

    shape = Shape(tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=8, block_size=12)
    model = TiedTransformer(shape, pattern("tied", 2), dtype=torch.bfloat16)
    model.initialize(seed=0)
    export_gpt2(model, tokenizer, tmp_path / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype="auto")
    assert torch.equal(theirs.transformer.wte.weight, model.token_embedding)
    assert theirs.dtype == torch.bfloat16


def test_the_written_tokenizer_encodes_alike(model, tokenizer, tmp_path):
    import tokenizers

    export_gpt2(model, tokenizer, tmp_path / "hf")
    written = tokenizers.Tokenizer.from_file(str(tmp_path / "hf/tokenizer.json"))
    assert written.encode(TEXT).ids == tokenizer.encode(TEXT).tolist()
    assert written.decode(written.encode(TEXT).ids) == TEXT


def test_the_end_of_text_token_is_named_where_the_tokenizer_has_one(tmp_path):
    inner = make_tokenizer("bytes", "").to_library()
    inner.add_special_tokens(["<|endoftext|>"])
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = make_tokenizer(str(tmp_path / "tokenizer.json"), "")
    shape = Shape(tokenizer.vocab_size, n_layer=2, n_head=1, n_embd=4, block_size=4)
    model = TiedTransformer(shape, pattern("tied", 2))
    model.initialize(seed=0)
    export_gpt2(model, tokenizer, tmp_path / "hf")
    config = json.loads((tmp_path / "hf/config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (256, 256)


def test_a_folder_that_holds_something_is_left_alone(model, tokenizer, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another folder"):
        export_gpt2(model, tokenizer, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
