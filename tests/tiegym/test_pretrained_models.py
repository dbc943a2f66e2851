"""Environments that begin with a pretrained model of the library `transformers`."""

import json
import pickle
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

import tiegym
from tests.tiegym.playing import play
from tests.tiegym.small import SMALL
from tests.tiegym.transformer.tiny import EXPERTS, MODELS
from tiegym.library_models import checked_file
from tiegym.transformer import tensor_file


def save(folder, name, **changes):
    """Writes a tiny model as a pretrained one; returns it."""
    kind, config_class, entries = MODELS[name]
    torch.manual_seed(1)
    of_texts = {"vocab_size": 256} if "vocab_size" in entries else {}
    model = kind(config_class(**entries | of_texts | changes))
    model.save_pretrained(folder)
    return model.eval()


def pretrained(folder, **changes):
    """An environment of it; sizes are the model's own."""
    arguments = {k: v for k, v in SMALL.items() if k not in ("n_layer", "n_head", "n_embd")}
    return tiegym.TieEnv(**arguments | {"model": f"hf:{folder}"} | changes)


@pytest.mark.parametrize("name", ["gpt2", "llama", "roberta"])
def test_a_pretrained_model_begins_with_its_own_weights(name, tmp_path):
    extra = {"vocab_size": 260, "max_position_embeddings": 18} if name == "roberta" else {}
    theirs = save(tmp_path, name, **extra)
    env = pretrained(tmp_path, initial_ties="independent")
    env.reset(seed=0)
    assert (env.config.n_layer, env.config.n_head, env.config.n_embd) == (4, 2, 16)
    tokens = torch.arange(3, 12)[None]
    with torch.no_grad():
        env.model.eval()
        assert torch.equal(env.model(tokens).logits, theirs(tokens).logits)
    play(env, [0, 2])


def test_a_pretrained_model_of_images_begins_with_its_own_weights(tmp_path):
    theirs = save(tmp_path, "vit", num_labels=10)
    env = pretrained(tmp_path, initial_ties="independent", corpus="digits")
    env.reset(seed=0)
    inputs, _ = env._started_trainer().validation_set
    with torch.no_grad():
        assert torch.equal(env.model.eval()(**inputs).logits, theirs(**inputs).logits)
    play(env, [0, 2])


BIAS = "model.layers.{}.mlp.gate.e_score_correction_bias"


@pytest.fixture
def experts(tmp_path):
    """A pretrained model whose layers have a buffer that is saved, and an environment of it."""
    sizes = {k: v for k, v in MODELS["llama"][2].items() if k != "head_dim"}
    sizes |= {"vocab_size": 256, "num_key_value_heads": 2}
    config = transformers.DeepseekV3Config(**sizes | EXPERTS)
    torch.manual_seed(1)
    model = transformers.DeepseekV3ForCausalLM(config).eval()
    for layer in range(4):
        model.get_buffer(BIAS.format(layer)).copy_(torch.tensor([5.0, -5.0, 0.0, layer]))
    model.save_pretrained(tmp_path / "m")
    return model, pretrained(tmp_path / "m", initial_ties="independent")


def test_a_pretrained_model_begins_with_its_buffers_and_copies_have_them(experts, tmp_path):
    theirs, env = experts
    env.reset(seed=0)
    tokens = torch.arange(3, 12)[None]
    with torch.no_grad():
        assert torch.equal(env.model.eval()(tokens).logits, theirs(tokens).logits)
    play(env, [0])
    env.model.library.get_buffer(BIAS.format(1)).add_(1)  # as a type may in training
    env.save_checkpoint(tmp_path / "c")
    loaded = pretrained(tmp_path / "m", initial_ties="independent")
    loaded.load_checkpoint(tmp_path / "c")
    restored, snapshot = env.fork(), env.snapshot()
    copies = [env.fork(), loaded, pickle.loads(pickle.dumps(env)), restored]
    play(restored, [1])
    restored.restore(snapshot)
    expected = play(env, [2])
    for twin in copies:
        assert play(twin, [2]) == expected
        assert twin.model.library.get_buffer(BIAS.format(1)).tolist() == [6, -4, 1, 2]
    env.reset(seed=0)
    env.step(0)
    for layer in range(4):
        assert env.model.library.get_buffer(BIAS.format(layer)).tolist() == [5, -5, 0, layer]


def test_the_hash_of_weights_is_of_buffers_too(experts, tmp_path):
    model, env = experts
    assert pretrained(tmp_path / "m").weights_sha256 == env.weights_sha256
    model.get_buffer(BIAS.format(3)).add_(1)
    model.save_pretrained(tmp_path / "m")
    assert pretrained(tmp_path / "m").weights_sha256 != env.weights_sha256


def test_an_older_checkpoint_without_buffers_goes_on(arguments, tmp_path):
    given = arguments("deepseek_v3", model_config=json.dumps(EXPERTS))
    env = tiegym.TieEnv(**given)
    env.reset(seed=0)
    env.step(0)
    env.save_checkpoint(tmp_path / "c")
    tensors, values = tensor_file.read_tensors(tmp_path / "c", "checkpoint")
    buffers = [name for name in tensors if name.endswith("e_score_correction_bias")]
    assert len(buffers) == 4
    old = {name: tensor for name, tensor in tensors.items() if name not in buffers}
    tensor_file.write_tensors(tmp_path / "old", "checkpoint", old, values)
    twin = tiegym.TieEnv(**given)
    twin.load_checkpoint(tmp_path / "old")
    assert play(twin, [1, 0]) == play(env, [1, 0])
    for layer in range(4):  # what training may have changed begins anew with the next episode
        env.model.library.get_buffer(BIAS.format(layer)).add_(1)
    env.reset(seed=0)
    env.step(0)
    assert not any(env.model.library.get_buffer(BIAS.format(layer)).any() for layer in range(4))


def test_layers_that_are_tied_at_the_start_take_the_first_or_the_mean(tmp_path):
    theirs = save(tmp_path, "gpt2").state_dict()
    name = "transformer.h.{}.mlp.c_fc.weight"
    each = [theirs[name.format(i)] for i in range(4)]
    for merge, expected in (("first", each[1]), ("mean", torch.stack(each[1:]).mean(0))):
        env = pretrained(tmp_path, initial_ties=(0, 1, 1, 2), merge=merge)
        env.reset(seed=0)
        mine = env.model.library.state_dict()
        assert torch.equal(mine[name.format(0)], each[0])
        for layer in (1, 2, 3):
            torch.testing.assert_close(mine[name.format(layer)], expected)


def test_an_output_layer_that_a_pretrained_model_lacks_depends_on_the_seed(tmp_path, labelled):
    theirs = save(tmp_path, "gpt2", vocab_size=258)
    env = pretrained(tmp_path, task="classification", corpus=labelled, initial_ties="independent")
    heads = []
    for seed in (0, 1, 0):
        env.reset(seed=seed)
        heads.append(env.model.library.score.weight.detach().clone())
    assert torch.equal(heads[0], heads[2])
    assert not torch.equal(heads[0], heads[1])
    mine = env.model.library.transformer
    assert torch.equal(mine.h[2].attn.c_attn.weight, theirs.transformer.h[2].attn.c_attn.weight)
    rows = theirs.transformer.wte.weight
    assert len(mine.wte.weight) == 260  # padding and the like are more tokens than it has
    assert torch.equal(mine.wte.weight[:258], rows)
    play(env, [0])


def test_a_pretrained_model_keeps_its_sizes(tmp_path):
    save(tmp_path, "gpt2")
    with pytest.raises(ValueError, match="has n_layer=4, but 3 is given: leave it out"):
        pretrained(tmp_path, n_layer=3)
    with pytest.raises(ValueError, match=r"block_size=17 is longer .* 16 positions"):
        pretrained(tmp_path, block_size=17)
    with pytest.raises(ValueError, match=r"weights of model=.* don't fit: .*mlp.c_fc"):
        pretrained(tmp_path, model_config='{"n_inner": 8}')


def test_folders_without_readable_weights_are_refused(tmp_path):
    save(tmp_path, "gpt2")
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    content = weights.read_bytes()
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="has no weights"):
        pretrained(tmp_path)
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pickled ones \(\*.bin\) are never read"):
        pretrained(tmp_path)
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="don't fit"):
        pretrained(tmp_path)
    weights.unlink()
    outside = tmp_path.parent / "outside.safetensors"
    outside.write_bytes(content)
    weights.symlink_to(outside)
    with pytest.raises(ValueError, match="no ordinary file of that folder"):
        pretrained(tmp_path)
    config.write_text("{}")
    with pytest.raises(ValueError, match=r"no usable config.json"):
        pretrained(tmp_path)
    config.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no config.json"):
        pretrained(tmp_path)


def test_an_index_names_safetensors_of_its_own_folder_alone(tmp_path):
    model = save(tmp_path / "m", "gpt2")
    (tmp_path / "m/model.safetensors").rename(tmp_path / "outside.safetensors")
    torch.save(model.state_dict(), tmp_path / "m/a.bin")
    model.save_pretrained(tmp_path / "m", max_shard_size="20KB")
    path = tmp_path / "m/model.safetensors.index.json"
    index = json.loads(path.read_text())
    pretrained(tmp_path / "m")
    for name in ("a.bin", "../outside.safetensors", str(tmp_path / "outside.safetensors"), 5):
        changed = index | {"weight_map": dict.fromkeys(index["weight_map"], name)}
        path.write_text(json.dumps(changed))
        with pytest.raises(ValueError, match="no safetensors file in its own folder: refused"):
            pretrained(tmp_path / "m")
    for text in ("{}", "[" * 10**5, "5", '{"weight_map": [1]}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"index.json is damaged"):
            pretrained(tmp_path / "m")


def test_a_configuration_chooses_no_file_of_weights(tmp_path):
    model = save(tmp_path, "gpt2")
    torch.save(model.state_dict(), tmp_path / "adapter_model.bin")
    path = tmp_path / "config.json"
    entries = json.loads(path.read_text()) | {"transformers_weights": "adapter_model.bin"}
    path.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match="names a file of its own for its weights, 'adapter_mo"):
        pretrained(tmp_path)


def test_files_lie_in_the_folder_or_in_the_hub_s_own_store(tmp_path):
    place = tmp_path / "models--a--b/snapshots/1"
    for folder, allowed in ((place, True), (tmp_path / "any/where", False)):
        folder.mkdir(parents=True)
        blobs = folder.parents[1] / "blobs"
        blobs.mkdir()
        (blobs / "x").write_text("{}")
        (folder / "config.json").symlink_to(blobs / "x")
        if allowed:
            assert checked_file(folder, "config.json") == folder / "config.json"
        else:
            with pytest.raises(ValueError, match="no ordinary file of that folder"):
                checked_file(folder, "config.json")
    with pytest.raises(ValueError, match="no ordinary file of that folder"):
        checked_file(Path("/dev"), "null")  # a folder right under the root


@pytest.mark.parametrize("model_type", ["gpt2", "mine"])
def test_code_in_a_folder_never_runs(model_type, tmp_path):
    save(tmp_path, "gpt2")
    config, ran = tmp_path / "config.json", tmp_path / "ran"
    values = json.loads(config.read_text()) | {"model_type": model_type}
    auto = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    config.write_text(json.dumps(values | {"auto_map": auto}))
    (tmp_path / "mine.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: pass\n")
    if model_type == "mine":
        with pytest.raises(ValueError, match=r"no usable config.json"):
            pretrained(tmp_path)
    else:
        pretrained(tmp_path).reset(seed=0)
    assert not ran.exists()


def test_a_pretrained_model_brings_its_tokenizer(tmp_path):
    words = {"[UNK]": 0, "the": 1, "of": 2, "a": 3}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    inner.save(str(tmp_path / "tokenizer.json"))
    save(tmp_path, "gpt2", vocab_size=4)
    env = pretrained(tmp_path, corpus="stdlib")
    assert env.config.tokenizer == str(tmp_path / "tokenizer.json")
    _, info = env.reset(seed=0)
    assert info["perplexity"] == pytest.approx(4)
    save(tmp_path, "gpt2", vocab_size=3)
    with pytest.raises(ValueError, match=r"has 4 tokens, but .* knows 3"):
        pretrained(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path):
    save(tmp_path, "gpt2")
    config = tmp_path / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"n_embd": 32}))
    with pytest.raises(ValueError, match="don't fit"):
        pretrained(tmp_path)
    llama = transformers.LlamaConfig(**MODELS["llama"][2] | {"vocab_size": 256})
    llama.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"lack .* of its layers' parameters"):
        pretrained(tmp_path)


def test_the_hash_of_weights_is_that_of_their_content_whatever_their_files(tmp_path):
    save(tmp_path / "one", "gpt2")
    model = save(tmp_path / "shards", "gpt2")
    (tmp_path / "shards/model.safetensors").unlink()
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    one, shards = (pretrained(tmp_path / name) for name in ("one", "shards"))
    assert one.weights_sha256 == shards.weights_sha256
    one.reset(seed=0)
    play(one, [0, 1])
    one.save_checkpoint(tmp_path / "x.safetensors")
    assert one.weights_sha256 == shards.weights_sha256  # of what it began with
    with torch.no_grad():
        model.transformer.ln_f.bias[0] += 1e-6
    model.save_pretrained(tmp_path / "one")
    other = pretrained(tmp_path / "one")
    assert other.weights_sha256 != one.weights_sha256
    with pytest.raises(ValueError, match="different are weights_sha256"):
        other.load_checkpoint(tmp_path / "x.safetensors")
    assert tiegym.TieEnv(**SMALL).weights_sha256 is None


def test_initial_weights_have_a_hash_too(tmp_path):
    env = tiegym.TieEnv(**SMALL)
    hashes = set()
    for seed in (0, 1, 0):
        env.reset(seed=seed)
        env.export(tmp_path / "m.safetensors")
        given = tiegym.TieEnv(**SMALL, initial_weights=str(tmp_path / "m.safetensors"))
        hashes.add(given.weights_sha256)
    assert len(hashes) == 2
    assert None not in hashes
