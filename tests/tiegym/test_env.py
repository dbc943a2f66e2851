"""The environment: spaces, rewards, info, streams of randomness, ends, copies, wrong input."""

import copy
import json
import math
import random
import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.wrappers import FlattenObservation, RecordEpisodeStatistics, TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

import tiegym
from tests.tiegym.small import SMALL
from tiegym import ties as tie_vectors
from tiegym.transformer.block import Shape
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.layer_stats import FEATURES

ACTIONS = ("layerwise", "pair", "joint")


def make(**changes):
    return gymnasium.make("TieEnv-v0", **SMALL | changes)


def bare(**changes):
    return make(**changes).unwrapped


def with_losses(env, training, validation):
    """The environment, its next steps' losses given: it trains nothing."""
    env._trainer.train = lambda iterations, *_: torch.tensor(training)
    env._trainer.validation_loss = lambda: torch.tensor(validation)
    return env


def play(env, seed, actions):
    """Rewards, losses and final weights of a run."""
    env.reset(seed=seed)
    results = [env.step(action) for action in actions]
    weights = torch.cat([p.detach().flatten() for p in env.unwrapped.model.parameters()])
    return [(r[1], r[4]["train_loss"], r[4]["val_loss"]) for r in results], weights


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", list(tiegym.ENVIRONMENTS))
def test_the_checkers_pass_without_a_warning(action, name):
    sizes = SMALL | {"tokenizer": "bytes", "dtype": "float32", "action": action}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name, **sizes)
        gymnasium_check_env(env.unwrapped)
        sb3_check_env(env.unwrapped)


@pytest.mark.parametrize("action", ACTIONS)
def test_wrappers_and_vector_environments_step(action):
    env = RecordEpisodeStatistics(TimeLimit(FlattenObservation(make(action=action)), 3))
    env.reset(seed=0)
    for _ in range(3):
        *_, truncated, info = env.step(env.action_space.sample())
    assert truncated
    assert info["episode"]["l"] == 3
    vector = gymnasium.vector.SyncVectorEnv([lambda: make(action=action)] * 2)
    observation, _ = vector.reset(seed=0)
    assert observation["ties"].shape == (2, 4)
    for _ in range(7):  # over the end of an episode
        vector.step(vector.action_space.sample())
    sb3 = DummyVecEnv([lambda: make(action=action)] * 2)
    sb3.reset()
    sb3.step([sb3.action_space.sample() for _ in range(2)])


def test_vector_environments_equal_a_single_one():
    torch.set_num_threads(2)  # what doesn't come through a fork by itself
    env = make()
    env.reset(seed=5)
    expected = [env.step(a)[1] for a in (1, 0, 3)]
    for kind in (gymnasium.vector.SyncVectorEnv, gymnasium.vector.AsyncVectorEnv):
        vector = kind([make] * 2)
        vector.reset(seed=[5, 6])
        assert [vector.step(np.array([a, a]))[1][0] for a in (1, 0, 3)] == expected
        vector.close()
    sb3 = SubprocVecEnv([make, make])
    sb3.seed(5)
    sb3.reset()
    rewards = [sb3.step(np.array([a, a]))[1][0] for a in (1, 0, 3)]
    assert rewards == pytest.approx(expected, rel=1e-6)  # SB3 stores float32
    sb3.close()


def test_the_spec_survives_json():
    env = make(initial_ties=[0, 0, 2, 2])
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.config == env.unwrapped.config


def test_reset_says_a_uniform_guess_and_builds_nothing():
    env = bare()
    observation, info = env.reset(seed=0)
    uniform = math.log(env.corpus.vocab_size)
    assert observation["loss"] == pytest.approx([uniform, uniform])
    assert observation["layer"] == 1
    assert not observation["layer_stats"].any()
    assert info["perplexity"] == pytest.approx(env.corpus.vocab_size)
    assert not env._trainer.built
    assert info["action_mask"].tolist() == [1, 1, 0, 0]


def test_a_uniform_guess_is_what_the_untrained_transformer_really_costs():
    env = bare()
    env.reset(seed=0)
    assert env.model is not None
    loss = env._trainer.validation_loss().item()
    assert loss == pytest.approx(math.log(env.corpus.vocab_size), abs=0.05)


def test_layerwise_actions_go_round_the_layers():
    env = bare(max_iters=100)
    observation, _ = env.reset(seed=0)
    layers = [int(observation["layer"])]
    for action in (1, 0, 3, 0, 2, 1):
        observation, *_, info = env.step(action)
        layers.append(int(observation["layer"]))
    assert layers == [1, 2, 3, 1, 2, 3, 1]
    assert info["ties"].tolist() == [0, 0, 2, 1]
    assert info["n_independent"] == 2


def test_pair_and_joint_actions_set_the_layers_they_name():
    env = bare(action="pair")
    env.reset(seed=0)
    *_, info = env.step(tie_vectors.pair_index(3, 3))
    assert info["ties"].tolist() == [0, 0, 0, 3]
    assert info["action_mask"].tolist() == [1] * 10
    env = bare(action="joint")
    env.reset(seed=0)
    *_, info = env.step(np.array([1, 1, 2]))
    assert info["ties"].tolist() == [0, 1, 1, 2]
    assert "action_mask" not in info
    assert env.action_masks().tolist() == [True] * (2 + 3 + 4)


@settings(max_examples=15, deadline=None)
@given(st.data(), st.sampled_from(ACTIONS), st.sampled_from(["owner", "sum"]))
def test_the_model_always_is_what_the_tie_vector_says(data, action, tie_grad):
    env = bare(action=action, tie_grad=tie_grad, iters_per_step=1, max_iters=5)
    env.action_space.seed(data.draw(st.integers(0, 1000)))
    env.reset(seed=0)
    terminated = False
    while not terminated:
        observation, _, terminated, _, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert tie_vectors.roots(info["ties"]).tolist() == env.model.roots
        assert sum(p.numel() for p in env.model.parameters()) == info["trainable_params"]
        storages = {
            env.model.independent(r).qkv_weight.untyped_storage().data_ptr()
            for r in env.model.roots
        }
        assert len(storages) == info["n_independent"]
        assert 1 <= info["model_state_bytes"] / (16 * info["trainable_params"]) <= 1.02


def test_info_holds_plain_values_and_fresh_copies():
    env = bare()
    _, info = env.reset(seed=0)
    for value in info.values():
        assert type(value) in (int, float, bool, np.ndarray)
    info["ties"][:] = 3
    env.ties[:] = 3
    assert env.ties.tolist() == [0, 0, 0, 0]


def test_model_state_before_the_first_step_is_what_it_is_after_it():
    env = bare()
    _, before = env.reset(seed=0)
    *_, after = env.step(0)
    assert before["model_state_bytes"] == after["model_state_bytes"]


def test_the_end_of_the_budget_terminates_and_reads_the_test_split_once(monkeypatch):
    env = bare(max_iters=5)  # the last step has one iteration
    calls = []
    real = type(env._trainer).test_loss
    monkeypatch.setattr(
        type(env._trainer), "test_loss", lambda t, depth: calls.append(1) or real(t)
    )
    env.reset(seed=0)
    results = [env.step(0) for _ in range(3)]
    assert [r[2] for r in results] == [False, False, True]
    assert [r[4]["iteration"] for r in results] == [2, 4, 5]
    assert results[-1][0]["budget"] == 1
    assert len(calls) == 1
    assert results[1][4]["test_perplexity"] == math.inf
    bits = results[-1][4]["test_bits_per_byte"]
    n_bytes, n_tokens = env.corpus.n_bytes["test"], len(env.corpus.test)
    assert bits == pytest.approx(math.log2(results[-1][4]["test_perplexity"]) * n_tokens / n_bytes)


def test_a_steps_losses_are_the_mean_of_training_and_the_validation_loss():
    env = with_losses(bare(), [1.0, 2.0], 4.0)
    env.reset(seed=0)
    observation, *_, info = env.step(0)
    assert (info["train_loss"], info["val_loss"]) == (1.5, 4.0)
    assert observation["loss"].tolist() == [1.5, 4.0]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("neg_log_ppl", lambda new, old: -new),
        ("neg_ppl", lambda new, old: -math.exp(new)),
        ("delta_log_ppl", lambda new, old: old - new),
        ("ppl_params", lambda new, old: -new - 0.5 * 2 / 4),
    ],
)
def test_each_reward_is_its_formula(kind, expected):
    env = bare(reward=kind, param_cost=0.5 if kind == "ppl_params" else 0.0)
    _, before = env.reset(seed=0)
    _, value, _, _, after = env.step(1)
    assert value == pytest.approx(expected(after["val_loss"], before["val_loss"]))


def test_same_seed_and_actions_give_the_same_bits():
    actions = [1, 0, 3, 0, 2]
    first, weights = play(make(dropout=0.1), 3, actions)
    again, same = play(make(dropout=0.1), 3, actions)
    other, _ = play(make(dropout=0.1), 4, actions)
    assert first == again
    assert torch.equal(weights, same)
    assert first != other


def test_a_later_episode_equals_the_same_one_in_a_new_environment():
    env = make()
    play(env, 0, [1, 2, 3])
    assert play(env, 7, [1, 0, 3])[0] == play(make(), 7, [1, 0, 3])[0]


def test_an_agents_draws_from_the_global_generators_change_nothing_and_are_not_changed():
    def draws():
        return random.random(), np.random.rand(), torch.rand(()).item()

    def seed_all():
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)

    seed_all()
    undisturbed = [draws() for _ in range(3)]
    quiet, _ = play(make(dropout=0.2), 1, [1, 0, 3])
    seed_all()
    env = make(dropout=0.2)
    env.reset(seed=1)
    mixed, noisy = [], []
    for action in (1, 0, 3):
        mixed.append(draws())
        _, value, _, _, info = env.step(action)
        noisy.append((value, info["train_loss"], info["val_loss"]))
    assert noisy == quiet
    assert mixed == undisturbed


def test_restore_goes_back_any_number_of_times():
    env = make(dropout=0.1)
    play(env, 0, [1, 2])
    snapshot = env.unwrapped.snapshot()
    futures = []
    for _ in range(3):
        futures.append([env.step(a)[:2] for a in (3, 0)])
        env.unwrapped.restore(snapshot)
    rewards = [[r for _, r in future] for future in futures]
    assert rewards[0] == rewards[1] == rewards[2]
    assert env.unwrapped.ties.tolist() == [0, 1, 2, 0]


def test_restore_works_in_place():
    env = bare()
    env.reset(seed=0)
    env.step(1)
    snapshot = env.snapshot()
    addresses = [p.data_ptr() for p in env.model.parameters()]
    env.step(2)
    env.restore(snapshot)
    assert [p.data_ptr() for p in env.model.parameters()] == addresses


def test_a_fork_goes_on_alike_and_apart():
    env = make(dropout=0.1)
    play(env, 0, [1, 2])
    twin = env.unwrapped.fork()
    assert [twin.step(a)[1] for a in (3, 0)] == [env.step(a)[1] for a in (3, 0)]
    twin.step(1)
    before = env.unwrapped.snapshot()
    twin.reset(seed=9)
    twin.step(1)
    after = env.unwrapped.snapshot()
    assert before.values == after.values
    assert all(torch.equal(before.tensors[k], after.tensors[k]) for k in before.tensors)
    assert twin.model.token_embedding.data_ptr() != env.unwrapped.model.token_embedding.data_ptr()


def test_a_fork_before_the_first_step_starts_the_same_episode():
    env = bare()
    env.reset(seed=4)
    twin = env.fork()
    assert twin.step(1)[1] == env.step(1)[1]
    assert env.fork().reset()[0]["budget"] == 0  # np_random is copied along
    assert env.np_random.bit_generator.state == twin.np_random.bit_generator.state


def test_a_checkpoint_goes_on_in_a_new_environment(tmp_path):
    env = bare(dropout=0.1)
    play(env, 0, [1, 2])
    env.save_checkpoint(tmp_path / "deep" / "here.safetensors")
    expected = [env.step(a)[1] for a in (3, 0)]
    again = bare(dropout=0.1)
    again.load_checkpoint(tmp_path / "deep" / "here.safetensors")
    assert [again.step(a)[1] for a in (3, 0)] == expected
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["here.safetensors"]
    with pytest.raises(ValueError, match="another configuration; different are learning_rate"):
        bare(dropout=0.1, learning_rate=0.5).load_checkpoint(tmp_path / "deep/here.safetensors")


def test_a_checkpoint_asks_for_the_type_of_its_device_not_for_its_name(tmp_path, monkeypatch):
    env = bare(device="cpu", dtype="float32")
    play(env, 0, [1, 2])
    env.save_checkpoint(tmp_path / "here.safetensors")
    monkeypatch.setattr("tiegym.training.workload.resolve_device", lambda name: torch.device("cpu"))
    again = bare(device="auto", dtype="float32")
    again.load_checkpoint(tmp_path / "here.safetensors")
    assert again.step(3)[1] == env.step(3)[1]
    monkeypatch.setattr(again._trainer.workload, "device", torch.device("cuda:1"))
    with pytest.raises(ValueError, match=r"device \('cpu' there, 'cuda' here\)"):
        again.load_checkpoint(tmp_path / "here.safetensors")


def test_divergence_ends_the_episode_with_a_finite_floor():
    env = bare(learning_rate=1e6, divergence_loss=8.0, max_iters=1000, reward="neg_ppl")
    env.reset(seed=0)
    for _ in range(100):
        observation, value, terminated, truncated, info = env.step(1)
        assert env.observation_space.contains(observation)
        if terminated:
            break
    assert info["diverged"]
    assert not truncated
    assert value == -math.exp(8.0)
    assert info["perplexity"] == info["test_perplexity"] == math.exp(8.0)
    numbers = [v for v in info.values() if isinstance(v, float)]
    assert all(math.isfinite(n) for n in numbers)


def test_an_episode_after_divergence_starts_anew():
    def initial_state(env):
        _, info = env.reset(seed=0)
        assert not info["diverged"]
        assert env.model is not None
        return env.snapshot().tensors

    env = bare()
    expected = initial_state(env)
    with torch.no_grad():
        env.model.final_norm_bias.fill_(math.nan)
    assert env.step(1)[4]["diverged"]
    anew = initial_state(env)
    assert all(torch.equal(anew.pop(name), tensor) for name, tensor in expected.items())
    assert not any(moment.any() for moment in anew.values())


@pytest.mark.parametrize("high", [9.0, math.nan])
@pytest.mark.parametrize("where", range(3))
def test_one_training_or_validation_loss_above_the_ceiling_is_divergence(high, where):
    losses = [1.0] * 3
    losses[where] = high
    env = with_losses(bare(divergence_loss=8.0), losses[:2], losses[2])
    env.reset(seed=0)
    _, _, terminated, _, info = env.step(0)
    assert terminated
    assert info["diverged"]


def test_a_loss_that_is_not_a_number_is_divergence():
    env = bare()
    env.reset(seed=0)
    with torch.no_grad():
        env.model.final_norm_bias.fill_(math.nan)
    observation, value, terminated, _, info = env.step(1)
    assert terminated
    assert info["diverged"]
    assert math.isfinite(value)
    assert env.observation_space.contains(observation)


def test_layer_stats_are_what_they_say():
    env = bare(iters_per_step=1)
    env.reset(seed=0)
    stats = env.step(1)[0]["layer_stats"].reshape(4, len(FEATURES))
    moved, similarity, gradient = stats.T
    assert moved[0] == moved[2] == moved[3] > 0  # tied layers have the figures of their root
    assert similarity[0] == similarity[3] == 1
    assert similarity[1] == similarity[2] < 1
    assert gradient[0] != gradient[1]


def test_a_tie_change_by_itself_moves_nothing():
    env = with_losses(bare(initial_ties="independent"), [1.0, 1.0], 1.0)
    env.reset(seed=0)
    stats = env.step(0)[0]["layer_stats"].reshape(4, len(FEATURES))
    assert env.ties.tolist() == [0, 0, 2, 3]
    assert not stats[:, FEATURES.index("moved")].any()


def test_an_exported_model_gives_the_same_logits_without_the_environment(tmp_path):
    env = bare()
    play(env, 0, [1, 0, 3])
    env.export(tmp_path / "model.safetensors")
    model = tiegym.load_model(tmp_path / "model.safetensors")
    tokens = env._trainer.validation_set[0]
    assert torch.equal(model(tokens), env.model.eval()(tokens))
    assert sum(p.numel() for p in model.parameters()) == env.step(1)[4]["trainable_params"]
    tokenizer = tiegym.load_tokenizer(tmp_path / "model.safetensors")
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat"


def test_an_exported_model_equals_a_plain_transformer_of_copies(tmp_path):
    env = bare(tie_grad="sum")
    play(env, 0, [1, 0, 3])
    config, shape = env.config, env.model.shape
    plain = TiedTransformer(
        Shape(shape.vocab_size, config.n_layer, config.n_head, config.n_embd, config.block_size),
        np.arange(config.n_layer),
    )
    with torch.no_grad():
        for layer, root in enumerate(env.model.roots):
            plain.independent(layer).copy_(env.model.independent(root))
        for name in ("token_embedding", "position_embedding", "final_norm_weight"):
            getattr(plain, name).copy_(getattr(env.model, name))
        plain.final_norm_bias.copy_(env.model.final_norm_bias)
    tokens = env._trainer.validation_set[0]
    assert torch.equal(plain(tokens), env.model(tokens))


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x10" + b"\0" * 30])
def test_a_damaged_model_file_is_a_clear_error(tmp_path, content):
    path = tmp_path / "model.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        tiegym.load_model(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        tiegym.load_model(path)


def test_a_checkpoint_is_no_model(tmp_path):
    env = bare()
    env.reset(seed=0)
    env.step(0)
    env.save_checkpoint(tmp_path / "c.safetensors")
    with pytest.raises(ValueError, match="holds 'checkpoint', not a model"):
        tiegym.load_model(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"initial_ties": "spiral"}, ValueError, "unknown tying pattern 'spiral'"),
        ({"initial_ties": [0, 2, 0, 0]}, ValueError, "layer 1 points at 2"),
        ({"initial_ties": "0,0"}, ValueError, "2 entries, but there are 4 layers"),
        ({"corpus": "nonsense"}, (ValueError, FileNotFoundError), "nonsense"),
        ({"corpus": "./not/there.txt"}, FileNotFoundError, "not/there.txt"),
        ({"tokenizer": "bpe-x"}, ValueError, "bpe-x"),
        ({"reward": "ppl"}, ValueError, "reward='ppl' is unknown: choose one of neg_log_ppl"),
        ({"action": "all"}, ValueError, "action='all' is unknown"),
        ({"device": "tpu"}, ValueError, "device='tpu' must be auto, cpu"),
        ({"device": "cuda:99"}, ValueError, "device='cuda:99' is not there"),
        ({"n_embd": 15}, ValueError, "n_embd=15 is not divisible by n_head=2"),
        ({"n_layer": 0, "initial_ties": "tied"}, ValueError, "n_layer=0 must be at least 1"),
        ({"n_layer": 4.0}, ValueError, "n_layer=4.0 must be of type int"),
        ({"dropout": 1.0}, ValueError, "dropout=1.0 must be in"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate=nan must be finite"),
        ({"compile": 1}, ValueError, "compile=1 must be of type bool"),
        ({"param_cost": 1.0}, ValueError, "has no effect with reward='neg_log_ppl'"),
        ({"divergence_loss": 0.1}, ValueError, "must be above the loss of a uniform guess"),
        ({"corpus": "synthetic:300"}, ValueError, "lower these, or bring a larger corpus"),
        ({"render_mode": "film"}, ValueError, "render_mode='film' is unknown"),
        ({"n_layers": 4}, TypeError, "got an unexpected keyword argument 'n_layers'"),
    ],
)
def test_wrong_arguments_are_refused_at_construction(wrong, error, message):
    with pytest.raises(error, match=message):
        tiegym.TieEnv(**SMALL | wrong)


def test_steps_out_of_turn_and_wrong_actions_are_refused():
    env = bare(max_iters=2)
    with pytest.raises(gymnasium.error.ResetNeeded, match="there is no episode yet"):
        env.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded, match="there is no episode yet"):
        _ = env.model
    env.reset(seed=0)
    for wrong in (-1, 4, 1.5, "x", None, np.array([1, 2])):
        with pytest.raises(ValueError, match=r"is not in Discrete\(4\)"):
            env.step(wrong)
    with pytest.raises(ValueError, match="knows no options"):
        env.reset(options={"ties": 1})
    assert env.step(np.int64(1))[2]
    with pytest.raises(gymnasium.error.ResetNeeded, match="ended after 2 iterations"):
        env.step(0)


def test_a_step_works_where_the_caller_has_turned_gradients_off():
    env = bare()
    env.reset(seed=0)
    expected = env.step(1)[1]
    env.reset(seed=0)
    with torch.no_grad():
        assert env.step(1)[1] == expected


def test_evaluation_keeps_no_graph():
    env = bare()
    env.reset(seed=0)
    env.step(0)
    assert not env._trainer.validation_loss().requires_grad


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
def test_rendering_shows_the_ties(mode):
    env = make(render_mode=mode)
    env.reset(seed=0)
    first = copy.deepcopy(env.render())
    env.step(1)
    second = env.render()
    if mode == "ansi":
        assert isinstance(second, str)
        assert first != second
    else:
        assert second.dtype == np.uint8
        assert second.shape == first.shape
        assert (second != first).any()


def test_importing_tiegym_is_light_and_registers():
    code = (
        "import sys, tiegym, gymnasium; assert 'torch' not in sys.modules;"
        "assert 'datasets' not in sys.modules and 'matplotlib' not in sys.modules;"
        "print(sorted(k for k in gymnasium.registry if k.startswith('TieEnv')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout.replace("'", '"')) == [
        "TieEnv-v0",
        "TieEnvFlat-v0",
        "TieEnvPaper-v0",
    ]


def test_make_by_module_needs_no_import():
    code = (
        "import gymnasium; from tests.tiegym.small import SMALL;"
        "print(gymnasium.make('tiegym:TieEnv-v0', **SMALL).reset(seed=0)[0]['ties'].tolist())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[0, 0, 0, 0]"


def test_one_layer_is_an_environment_without_choices(tmp_path):
    env = tiegym.TieEnv(**{**SMALL, "n_layer": 1, "max_iters": 8})
    observation, info = env.reset(seed=0)
    terminated = False
    while not terminated:
        assert observation["layer"] == 0
        assert info["action_mask"].tolist() == [1]
        observation, _, terminated, _, info = env.step(0)
        assert env.observation_space.contains(observation)
    assert info["n_independent"] == 1
    env.export(tmp_path / "one.safetensors")
    assert tiegym.load_model(tmp_path / "one.safetensors").shape.n_layer == 1


def test_one_layer_has_no_joint_decision():
    with pytest.raises(ValueError, match="n_layer=1 must be at least 2 with action='joint'"):
        tiegym.TieEnv(**{**SMALL, "n_layer": 1, "action": "joint"})
