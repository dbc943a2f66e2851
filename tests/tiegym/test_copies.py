"""Copies of a run: independent, complete, and of the same configuration or refused."""

import copy
import math
import pickle

import gymnasium
import numpy as np
import pytest
import tokenizers
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tiegym
from tests.tiegym.small import SMALL
from tiegym.transformer import tensor_file


def begun(**changes):
    env = tiegym.TieEnv(**SMALL | {"dropout": 0.1} | changes)
    env.reset(seed=0)
    env.step(1)
    return env


def future(env):
    results = [env.step(action) for action in (2, 0, 3)]
    return [(r[1], r[4]["train_loss"], r[0]["layer_stats"].tolist()) for r in results]


COPIES = {
    "fork": lambda env: env.fork(),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda env: pickle.loads(pickle.dumps(env)),
    "deepcopy of a list": lambda env: copy.deepcopy([env])[0],
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_goes_on_alike_and_apart(name):
    env = begun()
    twin = COPIES[name](env)
    expected = future(env)
    assert future(twin) == expected
    assert twin.model is not env.model
    assert twin.optimizer is not env.optimizer
    before = [p.clone() for p in env.model.parameters()]
    twin.step(1)
    assert all(torch.equal(a, b) for a, b in zip(env.model.parameters(), before, strict=True))
    assert type(twin) is type(env)


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_draws_actions_of_its_own(name):
    env = begun()
    env.action_space.seed(3)
    expected = [env.fork().action_space.sample() for _ in range(5)]
    assert len(set(expected)) == 1  # a fork's draws don't advance ours
    twin = COPIES[name](env)
    ours = [env.action_space.sample() for _ in range(8)]
    assert [twin.action_space.sample() for _ in range(8)] == ours


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("stage", ["new", "reset"])
def test_a_copy_may_be_made_before_the_first_step(name, stage):
    env = tiegym.TieEnv(**SMALL)
    if stage == "reset":
        env.reset(seed=4)
    twin = COPIES[name](env)
    if stage == "new":
        env.reset(seed=4)
        twin.reset(seed=4)
    assert future(twin) == future(env)


def test_an_environment_in_wrappers_is_copied_deeply():
    env = gymnasium.make("TieEnv-v0", **SMALL)
    env.reset(seed=0)
    env.step(1)
    for make in (copy.deepcopy, COPIES["pickle"]):
        twin = make(env)
        assert twin.unwrapped.model is not env.unwrapped.model
        assert twin.spec == env.spec
        assert future(twin) == future(env.unwrapped.fork())


def test_a_copied_model_keeps_its_values_and_trains():
    env = begun()
    twin = copy.deepcopy(env.model)
    tokens = torch.zeros((1, 4), dtype=torch.long)
    assert torch.equal(twin.eval()(tokens), env.model.eval()(tokens))
    twin.train().loss(tokens, tokens).backward()


def set_rate(env, rate=0.05):
    env.optimizer.param_groups[0]["lr"] = rate
    env.optimizer.param_groups[0]["betas"] = (0.8, 0.9)


@pytest.mark.parametrize("name", [*COPIES, "snapshot", "checkpoint"])
def test_what_is_set_on_the_optimizer_goes_with_the_run(name, tmp_path):
    env = begun()
    usual = future(env.fork())
    set_rate(env)
    if name == "snapshot":
        twin = begun()
        twin.restore(env.snapshot())
    elif name == "checkpoint":
        env.save_checkpoint(tmp_path / "c")
        twin = tiegym.TieEnv(**SMALL, dropout=0.1)
        twin.load_checkpoint(tmp_path / "c")
    else:
        twin = COPIES[name](env)
    group = twin.optimizer.param_groups[0]
    assert (group["lr"], group["betas"]) == (0.05, (0.8, 0.9))
    changed = future(env)
    assert changed != usual
    assert future(twin) == changed


def test_going_back_goes_back_to_the_learning_rate_of_then():
    env = begun()
    snapshot = env.snapshot()
    expected = future(env)
    env.restore(snapshot)
    set_rate(env)
    env.step(1)
    env.restore(snapshot)
    assert env.optimizer.param_groups[0]["lr"] == 1e-3
    assert future(env) == expected


def test_reset_puts_the_configured_values_back():
    env = begun()
    set_rate(env)
    env.optimizer.param_groups[0]["lr"] = torch.tensor(0.05)  # PyTorch takes a tensor, too
    env.step(1)
    env.reset(seed=0)
    env.step(1)
    assert future(env) == future(begun())


def test_a_schedule_of_pytorch_works_over_a_copy():
    env = begun()
    schedule = torch.optim.lr_scheduler.LambdaLR(env.optimizer, lambda k: 1 / (k + 1))
    env.step(1)
    schedule.step()
    twin = env.fork()
    assert twin.optimizer.param_groups[0]["lr"] == env.optimizer.param_groups[0]["lr"] == 5e-4
    assert future(twin) == future(env)


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate": 0.5}, {"n_embd": 32}, {"tie_grad": "sum"}, {"corpus": "synthetic:30000"}],
)
def test_a_snapshot_of_another_configuration_is_refused_and_changes_nothing(changes):
    env = begun()
    snapshot = begun(**changes).snapshot()
    (name,) = changes
    expected = future(env.fork())
    with pytest.raises(ValueError, match=f"snapshot of another configuration; .*{name}"):
        env.restore(snapshot)
    assert future(env) == expected


def test_a_snapshot_of_another_text_is_refused(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat.\n" * 3000)
    env = begun(corpus=str(path))
    snapshot = env.snapshot()
    path.write_text("the dog sat on the mat.\n" * 3000)
    with pytest.raises(ValueError, match="another configuration; different are corpus_sha256"):
        begun(corpus=str(path)).restore(snapshot)


def test_a_checkpoint_of_0_1_goes_on(tmp_path):
    env = begun()
    env.save_checkpoint(tmp_path / "c")
    tensors, values = tensor_file.read_tensors(tmp_path / "c", "checkpoint")
    del values["optimizer"]
    del values["config"]["corpus_sha256"], values["config"]["tokenizer_sha256"]
    tensor_file.write_tensors(tmp_path / "old", "checkpoint", tensors, values)
    twin = tiegym.TieEnv(**SMALL, dropout=0.1)
    twin.load_checkpoint(tmp_path / "old")
    assert future(twin) == future(env)


def damage(path, change):
    """Writes a checkpoint anew, its checksum right, its content changed."""
    tensors, values = tensor_file.read_tensors(path, "checkpoint")
    change(tensors, values)
    tensor_file.write_tensors(path, "checkpoint", tensors, values)


def replace(name, value):
    return lambda tensors, values: values["episode"].update({name: value})


def tensor(name, value):
    return lambda tensors, values: tensors.update({name: value})


HOSTILE = {
    "no configuration": lambda t, v: v.pop("config"),
    "a list for a configuration": lambda t, v: v.update(config=[]),
    "no episode": lambda t, v: v.pop("episode"),
    "a list for an episode": lambda t, v: v.update(episode=[1]),
    "an entry more": replace("__class__", 1),
    "ties beyond": replace("ties", [0, 9, 0, 0]),
    "ties of text": replace("ties", "abcd"),
    "too few ties": replace("ties", [0]),
    "a layer beyond": replace("layer", 10**20),
    "iterations of text": replace("iteration", "1"),
    "negative iterations": replace("iteration", -1),
    "a loss of text": replace("loss", "1"),
    "too many stats": replace("stats", [0.0] * 999),
    "a history of numbers": replace("history", [1, 2]),
    "a seed below zero": replace("seed", -1),
    "no generator": lambda t, v: v.pop("np_random"),
    "another generator": lambda t, v: v["np_random"].update(bit_generator="MT19937"),
    "a generator of text": lambda t, v: v.update(np_random="x"),
    "a learning rate of text": lambda t, v: v["optimizer"].update(lr="1"),
    "betas of text": lambda t, v: v["optimizer"].update(betas="ab"),
    "a flag of text": lambda t, v: v["optimizer"].update(fused="x"),
    "a list of values": lambda t, v: v.update(optimizer=[1]),
    "a weight less": lambda t, v: t.pop("model.final_norm_bias"),
    "a weight more": tensor("model.blocks.2.qkv_bias", torch.zeros(48)),
    "a weight of another size": tensor("model.final_norm_bias", torch.zeros(17)),
    "a weight of another type": tensor("model.final_norm_bias", torch.zeros(16).double()),
    "a moment less": lambda t, v: t.pop("optimizer.exp_avg.final_norm_bias"),
    "no state of a generator": tensor("rng.batches", torch.zeros(5056, dtype=torch.uint8)),
    "tokens beyond": tensor("validation.inputs", torch.full((2, 16), 999)),
    "a row more": tensor("validation.inputs", torch.zeros((3, 16), dtype=torch.long)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_refused_in_words_and_changes_nothing(name, tmp_path):
    env = begun()
    env.save_checkpoint(tmp_path / "c")
    damage(tmp_path / "c", HOSTILE[name])
    expected = future(env.fork())
    with pytest.raises(ValueError, match="c is a checkpoint"):
        env.load_checkpoint(tmp_path / "c")
    assert future(env) == expected


def test_a_checkpoint_of_a_single_sequence_can_be_written(tmp_path):
    env = begun(batch_size=1, eval_batches=1)
    env.save_checkpoint(tmp_path / "c")
    twin = tiegym.TieEnv(**SMALL | {"batch_size": 1, "eval_batches": 1, "dropout": 0.1})
    twin.load_checkpoint(tmp_path / "c")
    assert future(twin) == future(env)


def test_tensors_that_share_memory_are_written_each_by_itself(tmp_path):
    whole = torch.arange(6.0)
    parts = {"whole": whole, "same": whole, "view": whole[1:4], "turned": whole.view(2, 3).T}
    tensor_file.write_tensors(tmp_path / "t", "model", parts, {})
    read, _ = tensor_file.read_tensors(tmp_path / "t", "model")
    assert all(torch.equal(read[name], parts[name]) for name in parts)
    with safe_open(tmp_path / "t", framework="pt") as file:
        assert sorted(file.keys()) == sorted(parts)
    save_file(load_file(tmp_path / "t"), tmp_path / "again")  # what was read shares nothing


def test_a_test_loss_that_is_not_a_number_is_capped():
    env = begun(divergence_loss=8.0)
    with torch.no_grad():
        env.model.final_norm_bias.fill_(math.nan)
    assert env.test_metrics()["test_perplexity"] == math.exp(8.0)


def test_step_stats_of_the_last_episode_are_gone_after_reset():
    env = begun()
    assert env.step_stats
    env.reset()
    assert env.step_stats == {}
    assert np.isfinite(list(future(env)[0][:2])).all()


def test_a_copy_of_another_tokenizer_under_the_same_name_is_refused(tmp_path):
    """The words are numbered the other way round: as many as before, of the same text."""
    words = [f"w{k}" for k in range(20)]
    (tmp_path / "text.txt").write_text(" ".join(words) * 1000)
    path = tmp_path / "tokenizer.json"

    def save(words):
        vocabulary = {word: k for k, word in enumerate(["<unk>", " ", *words])}
        made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
        made.pre_tokenizer = tokenizers.pre_tokenizers.Split(" ", "isolated")
        made.decoder = tokenizers.decoders.Fuse()
        made.save(str(path))

    save(words)
    files = {"corpus": str(tmp_path / "text.txt"), "tokenizer": str(path)}
    env = begun(**files)
    env.save_checkpoint(tmp_path / "c")
    begun(**files).load_checkpoint(tmp_path / "c")
    save(words[::-1])
    with pytest.raises(ValueError, match="another configuration; different are tokenizer_sha256"):
        begun(**files).restore(env.snapshot())
    with pytest.raises(ValueError, match="another configuration; different are tokenizer_sha256"):
        begun(**files).load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("wrong", [None, "checkpoint.safetensors", {"config": {}}])
def test_what_is_no_snapshot_is_refused_by_name(wrong):
    with pytest.raises(TypeError, match=r"restore takes what snapshot\(\) returned, and not"):
        begun().restore(wrong)
