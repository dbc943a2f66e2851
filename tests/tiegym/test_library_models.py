"""Environments whose transformer is a model of the library `transformers`."""

import json
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import tokenizers
import torch
import transformers
from gymnasium.utils.env_checker import check_env

import tiegym
from tests.tiegym.small import SMALL
from tests.tiegym.transformer.tiny import MODELS

MIXED = {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 4}
ACTIONS = [1, 0, 3, 1, 2, 0]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A file of texts with a class each."""
    path = tmp_path_factory.mktemp("texts") / "texts.csv"
    rows = [f"{'cats purr' if n % 2 else 'dogs bark'} {n},{n % 2}" for n in range(60)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def arguments(labelled):
    """The arguments of an environment of each of `MODELS`."""

    def of(model, **changes):
        found = SMALL | {"model": model, "dropout": 0.1}
        if model == "t5":
            found |= {"task": "classification", "corpus": labelled, "block_size": 24}
        if model == "vit":
            found |= {"corpus": "digits"}
        if model == "gemma3_text":
            found |= {"model_config": json.dumps(MIXED)}
        return found | changes

    return of


def play(env, actions):
    steps = [env.step(action) for action in actions]
    assert all(np.isfinite(reward) for _, reward, *_ in steps)
    return [(reward, info["ties"].tolist(), info["train_loss"]) for _, reward, *_, info in steps]


@pytest.mark.parametrize("model", MODELS)
def test_copies_of_a_run_go_on_exactly(model, arguments, tmp_path):
    env = tiegym.TieEnv(**arguments(model), initial_ties="cycle:2")
    torch.manual_seed(5)
    state = torch.get_rng_state()
    env.reset(seed=3)
    play(env, ACTIONS[:2])
    env.save_checkpoint(tmp_path / "x.safetensors")
    snapshot, fork = env.snapshot(), env.fork()
    first = play(env, ACTIONS[2:])
    assert play(fork, ACTIONS[2:]) == first
    other = tiegym.TieEnv(**arguments(model), initial_ties="cycle:2")
    other.load_checkpoint(tmp_path / "x.safetensors")
    assert play(other, ACTIONS[2:]) == first
    env.restore(snapshot)
    assert play(env, ACTIONS[2:]) == first
    for mine, its in zip(env.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(mine, its)
    other.reset(seed=3)
    assert play(other, ACTIONS)[2:] == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("model", MODELS)
def test_the_model_s_state_is_that_of_the_weights_that_exist(model, arguments):
    env = tiegym.TieEnv(**arguments(model, choices="tie+freeze"))
    _, info = env.reset(seed=0)
    frozen = []
    for action in (None, 0, 4, 1, 4):  # 4 freezes
        if action is not None:
            *_, info = env.step(action)
        weights = list(env.model.parameters())
        trained = [p for p in weights if p.requires_grad]
        still = sum(p.numel() for p in weights if not p.requires_grad)
        numbers = sum(p.numel() for p in trained)
        assert info["trainable_params"] == numbers
        assert info["model_state_bytes"] == 16 * numbers + 4 * len(trained) + 4 * still
        frozen.append(still)
    assert frozen[0] == frozen[1] == 0 < frozen[2] == frozen[3] < frozen[4]


def test_private_norms_are_counted_and_copied(arguments):
    env = tiegym.TieEnv(**arguments("qwen3", private="norms"), initial_ties="cycle:2")
    _, info = env.reset(seed=0)
    before = info["model_state_bytes"]
    *_, info = env.step(1)
    assert info["model_state_bytes"] == before
    assert info["trainable_params"] == sum(p.numel() for p in env.model.parameters())
    fork = env.fork()
    assert play(env, ACTIONS[1:]) == play(fork, ACTIONS[1:])
    shared = tiegym.TieEnv(**arguments("qwen3"), initial_ties="cycle:2")
    *_, without = shared.reset(seed=0)
    assert without["trainable_params"] < info["trainable_params"]


def test_runs_of_one_seed_begin_with_one_transformer_whatever_its_ties(arguments):
    losses = []
    for ties in ("independent", "tied"):
        env = tiegym.TieEnv(**arguments("llama"), initial_ties=ties)
        env.reset(seed=1)
        weights = dict(env.model.named_parameters())
        losses.append(weights["library.model.layers.0.mlp.up_proj.weight"].detach().clone())
    assert torch.equal(*losses)


def test_metrics_are_in_info_and_read_the_test_split_at_the_end(arguments):
    env = tiegym.TieEnv(**arguments("t5", max_iters=4))
    _, info = env.reset(seed=0)
    assert info["perplexity"] == pytest.approx(2)
    assert (info["accuracy"], info["test_accuracy"]) == (0, -np.inf)
    assert "bits_per_byte" not in info
    env.step(0)
    *_, info = env.step(0)
    loss, figures = env._trainer.validate()
    assert info["val_loss"] == loss.item()
    assert info["accuracy"] == figures["accuracy"] > 0
    assert info["test_accuracy"] == env.test_metrics()["test_accuracy"] > 0


def test_layers_of_two_kinds_are_never_tied(arguments):
    env = tiegym.TieEnv(**arguments("gemma3_text", action="joint"))
    _, info = env.reset(seed=0)
    assert info["ties"].tolist() == [0, 1, 0, 1]  # "tied" as far as kinds allow
    assert env.action_masks().tolist() == [False, True, *(True, False, True), *(False, True) * 2]
    *_, info = env.step(np.array([0, 1, 2]))
    assert info["ties"].tolist() == [0, 1, 0, 1]
    env = tiegym.TieEnv(**arguments("gemma3_text", action="layerwise"))
    _, info = env.reset(seed=0)
    assert info["action_mask"].tolist() == [0, 1, 0, 0]
    with pytest.raises(ValueError, match=r"two kinds.*Nearest is \(0, 1, 0, 1\)"):
        tiegym.TieEnv(**arguments("gemma3_text", initial_ties=(0, 0, 0, 1)))


def test_sizes_keep_the_proportions_of_the_type(arguments):
    env = tiegym.TieEnv(**arguments("gemma3_text", n_embd=24, n_head=4))
    env.reset(seed=0)
    config = env.model.library.config
    assert (config.hidden_size, config.intermediate_size) == (24, 96)
    assert (config.head_dim, config.num_key_value_heads) == (6, 2)
    assert config.max_position_embeddings == SMALL["block_size"]
    assert config.attention_dropout == 0.1
    given = arguments("gemma3_text", model_config=json.dumps(MIXED | {"intermediate_size": 10}))
    env = tiegym.TieEnv(**given)
    env.reset(seed=0)
    assert env.model.library.config.intermediate_size == 10


def save(folder, name, **changes):
    """Writes a tiny model as a pretrained one; returns it."""
    kind, config_class, entries = MODELS[name]
    torch.manual_seed(1)
    model = kind(config_class(**entries | {"vocab_size": 256} | changes))
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


WRONG = {
    "a type that isn't known": ({"model": "gpt3"}, ValueError, "did you mean gptj or gpt2"),
    "an entry that isn't known": (
        {"model": "gpt2", "model_config": '{"n_inne": 3}'},
        ValueError,
        "n_inne, which GPT2Config doesn't: did you mean n_inner",
    ),
    "an entry that is an argument": (
        {"model": "gpt2", "model_config": '{"num_hidden_layers": 3}'},
        ValueError,
        "which the argument n_layer decides",
    ),
    "an entry of another type": (
        {"model": "gpt2", "model_config": '{"n_inner": "wide"}'},
        ValueError,
        "can't have these sizes",
    ),
    "no JSON": ({"model": "gpt2", "model_config": "{"}, ValueError, "is no JSON"),
    "no object": ({"model": "gpt2", "model_config": "[]"}, ValueError, "must be a JSON object"),
    "entries for ours": ({"model_config": '{"n_inner": 3}'}, ValueError, "with model='gpt'"),
    "a task for ours": ({"task": "classification"}, ValueError, 'with model="gpt"'),
    "an encoder that is to go on": (
        {"model": "bert", "task": "language-modeling"},
        ValueError,
        "is an encoder",
    ),
    "a task without a head": (
        {"model": "vit", "task": "question-answering"},
        ValueError,
        "no output layer for task='question-answering'",
    ),
    "a task that isn't known": ({"model": "bert", "task": "chess"}, ValueError, "choose auto"),
    "no task at all": ({"model": "wav2vec2"}, ValueError, "no output layer for any task"),
    "no list of layers": ({"model": "albert"}, ValueError, "n_layer=4, but the list of layers"),
    "several models in one": (
        {"model": "gemma3"},
        ValueError,
        "several models.*such as gemma3_text",
    ),
    "a part of ours": ({"model": "llama", "private": "scales"}, ValueError, 'only model="gpt"'),
    "compiled": ({"model": "llama", "compile": True}, ValueError, 'only model="gpt"'),
    "nothing to merge": ({"model": "llama", "merge": "mean"}, ValueError, "nothing to merge"),
    "heads that don't go": (
        {"model": "bert", "n_head": 3},
        ValueError,
        "model='bert' can't be made",
    ),
    "no folder": ({"model": "hf:./nowhere/at/all"}, FileNotFoundError, "no such folder"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cant_be_is_an_error_at_construction(case):
    changes, kind, message = WRONG[case]
    with pytest.raises(kind, match=message):
        tiegym.TieEnv(**SMALL | changes)


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


def test_weights_that_a_task_does_not_need_are_no_obstacle(arguments, tmp_path):
    config = '{"is_decoder": true, "add_cross_attention": true}'
    env = tiegym.TieEnv(**arguments("bert", model_config=config))
    env.reset(seed=0)
    env.step(1)
    idle = [name for name, p in env.model.named_parameters() if p.grad is None]
    assert idle
    assert all("crossattention" in name for name in idle)
    env.save_checkpoint(tmp_path / "x.safetensors")
    other = tiegym.TieEnv(**arguments("bert", model_config=config))
    other.load_checkpoint(tmp_path / "x.safetensors")
    assert play(other, [2, 0]) == play(env, [2, 0])


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


def test_without_the_library_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'tiegym\[models\]'"):
        tiegym.TieConfig(model="llama")
    tiegym.TieConfig()


def test_text_is_generated_by_models_that_predict_the_next_token(arguments):
    env = tiegym.TieEnv(**arguments("llama", dropout=0.0))
    env.reset(seed=0)
    play(env, [0, 2, 0])
    prompt = torch.tensor([[5, 9, 3]])
    state = torch.get_rng_state()
    text = tiegym.generate(env.model, prompt, 30, temperature=0)  # more than it looks back on
    assert text.shape == (1, 33)
    theirs = env.model.library.generate(prompt, max_new_tokens=8, do_sample=False)
    assert torch.equal(text[:, :11], theirs)
    drawn = tiegym.generate(env.model, prompt, 5, seed=1)
    assert torch.equal(drawn, tiegym.generate(env.model, prompt, 5, seed=1))
    assert torch.equal(torch.get_rng_state(), state)
    encoder = tiegym.TieEnv(**arguments("bert"))
    encoder.reset(seed=0)
    with pytest.raises(ValueError, match="BertForMaskedLM doesn't predict the next token"):
        tiegym.generate(encoder.model, prompt, 1)


def test_depths_are_those_of_our_own_transformer(arguments):
    env = tiegym.TieEnv(**arguments("gpt2"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match='only model="gpt" runs others'):
        env.validation_loss(2)
    env.depths = [4] * 12
    with pytest.raises(ValueError, match="only model='gpt'"):
        env.step(0)


def test_export_to_one_file_is_that_of_our_own_transformer(arguments, tmp_path):
    env = tiegym.TieEnv(**arguments("gpt2"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match="has the weights of every layer"):
        env.export(tmp_path / "x.safetensors")


def test_a_checker_of_environments_finds_nothing(arguments):
    env = gymnasium.make("TieEnv-v0", **arguments("bert", max_iters=6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
