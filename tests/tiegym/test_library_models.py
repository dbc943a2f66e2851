"""Environments whose transformer is a model of the library `transformers`."""

import json
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import tiegym
from tests.tiegym.playing import MIXED, check_state_bytes, check_that_copies_go_on, play
from tests.tiegym.small import SMALL
from tests.tiegym.transformer.tiny import MODELS
from tiegym.data.tasks.names import HEADS

ACTIONS = [1, 0, 3, 1, 2, 0]


@pytest.mark.parametrize("model", MODELS)
def test_copies_of_a_run_go_on_exactly(model, arguments, tmp_path):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    check_that_copies_go_on(arguments(model, initial_ties="cycle:2"), ACTIONS, tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


TASKS = {
    "language-modeling": {"model": "gpt2"},
    "masked-language-modeling": {"model": "bert"},
    "classification": {"model": "bert", "corpus": "labelled", "block_size": 24},
    "question-answering": {"model": "bert", "corpus": "questions", "block_size": 24},
    "image-classification": {"model": "vit", "corpus": "digits"},
    "scores": {"model": "bert", "corpus": "scored", "block_size": 24, "task": "classification"},
}


@pytest.fixture
def of_task(labelled, tmp_path):
    """The arguments of an environment of each of `TASKS`."""
    asked = {"question": "who?", "answer_start": 0}
    questions = [
        asked | {"context": f"cat {n}", "answer_text": f"{'cat'[: 1 + n % 3]}"} for n in range(400)
    ]
    scored = [{"text": f"cat {n}", "score": n / 7 - 2} for n in range(60)]
    files = {"labelled": labelled}
    for name, rows in (("questions", questions), ("scored", scored)):
        files[name] = str(tmp_path / f"{name}.jsonl")
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def of(task, **changes):
        found = SMALL | {"task": task, "test_tokens": 8} | TASKS[task]
        return found | {"corpus": files.get(found["corpus"], found["corpus"])} | changes

    return of


@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_a_type_that_seeds_numpy_leaves_the_callers_draws_alone(checkpoint_activations):
    given = SMALL | {"block_size": 704, "n_layer": 1, "batch_size": 1, "iters_per_step": 1}
    config = json.dumps({"intermediate_size": 16, "num_random_blocks": 1})
    env = tiegym.TieEnv(
        **given | {"model": "big_bird", "model_config": config, "action": "pair"},
        checkpoint_activations=checkpoint_activations,
    )
    env.reset(seed=0)
    np.random.seed(7)
    expected = np.random.random()
    np.random.seed(7)
    env.step(0)
    assert env.model.library.config.attention_type == "block_sparse"
    assert np.random.random() == expected


def test_every_task_is_there():
    assert TASKS.keys() - {"scores"} == HEADS.keys()


@pytest.mark.parametrize("task", TASKS)
def test_copies_of_a_run_of_each_task_go_on_exactly(task, of_task, tmp_path):
    check_that_copies_go_on(of_task(task), [1, 0], tmp_path)


@pytest.mark.parametrize(
    ("task", "value"),
    [("classification", 2), ("question-answering", 10**5), ("question-answering", -100)],
)
def test_a_checkpoint_with_classes_or_places_that_are_not_there_is_refused(
    task, value, of_task, tmp_path
):
    env = tiegym.TieEnv(**of_task(task))
    env.reset(seed=0)
    env.step(1)
    snapshot = env.snapshot()
    snapshot.tensors["validation.targets"].fill_(value)
    with pytest.raises(ValueError, match=r"damaged: validation.targets has tokens, classes or pla"):
        env.restore(snapshot)


@pytest.mark.parametrize("model", MODELS)
def test_the_model_s_state_is_that_of_the_weights_that_exist(model, arguments):
    env = tiegym.TieEnv(**arguments(model, choices="tie+freeze"))
    _, info = env.reset(seed=0)
    frozen = []
    for action in (None, 0, 4, 1, 4):  # 4 freezes
        if action is not None:
            *_, info = env.step(action)
        frozen.append(check_state_bytes(env, info))
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


def test_a_type_whose_configuration_has_no_padding_token_trains(arguments):
    env = tiegym.TieEnv(**arguments("rwkv"))
    assert not hasattr(env.workload.plan.config, "pad_token_id")
    env.reset(seed=0)
    play(env, [1, 0])


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


def test_a_decoder_whose_positions_begin_behind_padding_looks_back_on_a_block(arguments):
    config = json.dumps({"is_decoder": True})
    env = tiegym.TieEnv(**arguments("roberta", model_config=config))
    env.reset(seed=0)
    assert env.model.library.config.max_position_embeddings > SMALL["block_size"]
    prompt = torch.arange(3, 11)[None]
    text = tiegym.generate(env.model, prompt, 20, temperature=0)
    with torch.no_grad():
        logits = env.model.eval()(text[:, -1 - SMALL["block_size"] : -1]).logits
    assert text[0, -1] == logits[0, -1].argmax()


@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_no_byte_ends_what_a_fresh_model_generates(model, arguments):
    env = tiegym.TieEnv(**arguments(model))
    env.reset(seed=0)
    config = env.model.library.config
    assert (config.bos_token_id, config.eos_token_id) == (None, None)
    tokens = torch.zeros((1, 3), dtype=torch.int64)
    made = env.model.library.eval().generate(tokens, max_new_tokens=9, do_sample=False)
    assert made.shape == (1, 12)


def test_depths_are_those_of_our_own_transformer(arguments):
    env = tiegym.TieEnv(**arguments("gpt2"))
    env.reset(seed=0)
    with pytest.raises(ValueError, match='only model="gpt" runs others'):
        env.validation_loss(2)
    env.depths = [4] * 12
    with pytest.raises(ValueError, match="only model='gpt'"):
        env.step(0)


def test_a_checker_of_environments_finds_nothing(arguments):
    env = gymnasium.make("TieEnv-v0", **arguments("bert", max_iters=6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
