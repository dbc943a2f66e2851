"""Environments with private parts, soft changes and another start: state, files and refusals."""

import numpy as np
import pytest
import torch

import tiegym
from tests.tiegym.playing import check_that_copies_go_on, play
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig

EVERYTHING = {
    **SMALL,
    **{"private": "norms+scales+lora:2", "tie_change": "soft", "init": "admin"},
    **{"residual_scale": "group", "grad_accum": 2, "dropout": 0.1, "action": "joint"},
}
ACTIONS = [[1, 1, 3], [0, 2, 2], [1, 0, 3], [1, 1, 1], [0, 0, 0], [1, 2, 3]]


@pytest.fixture
def env():
    made = tiegym.TieEnv(**EVERYTHING)
    made.reset(seed=0)
    return made


def test_every_copy_goes_on_to_the_same_bits(tmp_path):
    check_that_copies_go_on(EVERYTHING, ACTIONS, tmp_path)


def test_parts_and_freezing_go_with_private_parts_to_the_same_bits(tmp_path):
    arguments = EVERYTHING | {"tie_parts": "attention+mlp", "choices": "tie+freeze"}
    env = tiegym.TieEnv(**arguments)
    env.reset(seed=0)
    env.action_space.seed(1)
    actions = [env.action_space.sample() for _ in range(6)]
    play(env, actions[:3])
    env.save_checkpoint(tmp_path / "here.safetensors")
    loaded = tiegym.TieEnv(**arguments)
    loaded.load_checkpoint(tmp_path / "here.safetensors")
    copies = [env.fork(), loaded]
    expected = play(env, actions[3:])
    assert [play(copy, actions[3:]) for copy in copies] == [expected] * 2
    env.export(tmp_path / "model.safetensors")
    tokens = torch.arange(16)[None]
    with torch.no_grad():
        mine = env.model.eval()(tokens)
        assert torch.equal(tiegym.load_model(tmp_path / "model.safetensors")(tokens), mine)


def test_a_fork_shares_no_private_weight(env):
    play(env, ACTIONS[:2])
    twin = env.fork()
    before = [p.clone() for p in env.model.private.parameters()]
    play(twin, ACTIONS[2:])
    for mine, its in zip(env.model.private.parameters(), before, strict=True):
        assert torch.equal(mine, its)


def test_private_parts_are_counted(env):
    config = env.config
    plain = tiegym.TieEnv(**SMALL | {"action": "joint"})
    plain.reset(seed=0)
    per_layer = 4 * config.n_embd + 2 * config.n_embd + 2 * 16 * config.n_embd
    for action in ACTIONS:
        ours, other = env.step(np.array(action))[4], plain.step(np.array(action))[4]
        own = ours["n_independent"] * 4 * config.n_embd  # norms that are in no block any more
        more = config.n_layer * per_layer - own
        assert ours["trainable_params"] == other["trainable_params"] + more
        assert ours["trainable_params"] == sum(p.numel() for p in env.model.parameters())
        tensors = 14 * config.n_layer - 4 * ours["n_independent"]
        assert ours["model_state_bytes"] == other["model_state_bytes"] + 16 * more + 4 * tensors


def test_an_exported_model_computes_the_same(env, tmp_path):
    play(env, ACTIONS[:4])
    env.export(tmp_path / "model.safetensors")
    loaded = tiegym.load_model(tmp_path / "model.safetensors")
    assert loaded.shape == env.model.shape
    tokens = torch.arange(32).view(2, 16)
    env.model.eval()
    with torch.no_grad():
        assert torch.equal(loaded(tokens), env.model(tokens))
    assert torch.equal(tiegym.generate(loaded, tokens, 5), tiegym.generate(env.model, tokens, 5))


def test_a_checkpoint_of_other_private_parts_is_refused(env, tmp_path):
    play(env, ACTIONS[:1])
    env.save_checkpoint(tmp_path / "here.safetensors")
    other = tiegym.TieEnv(**EVERYTHING | {"private": "norms+scales+lora:1"})
    with pytest.raises(ValueError, match=r"private \('norms\+scales\+lora:2' there"):
        other.load_checkpoint(tmp_path / "here.safetensors")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("none", "none"),
        ("scales+norms", "norms+scales"),
        ("lora:4+scales+norms", "norms+scales+lora:4"),
        ("lora:16", "lora:16"),
    ],
)
def test_private_parts_are_kept_in_one_order(given, kept):
    assert TieConfig(**SMALL | {"private": given}).private == kept


UNKNOWN = (
    *("", "norm", "none+norms", "norms+norms", "lora:2+lora:4", "lora", "lora:0", "lora:-1"),
    *("lora:1.5", "norms,scales", "norms + scales", "lora:04", "lora:99999999999", "lora:2:3"),
)


@pytest.mark.parametrize("private", UNKNOWN)
def test_private_parts_that_mean_nothing_are_refused(private):
    with pytest.raises(ValueError, match="private="):
        TieConfig(**SMALL | {"private": private})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"private": "lora:17"}, "lora:17.* above n_embd=16.*lower R"),
        ({"tie_change": "soft"}, "tie_change='soft'.*private='none'.*add lora:R"),
        ({"tie_change": "soft", "private": "norms"}, "add lora:R"),
        ({"tie_change": "gentle"}, "tie_change='gentle' is unknown: choose one of hard, soft"),
        ({"init": "admin", "private": "norms"}, "init='admin'.*private='norms'.*add scales"),
        ({"init": "zero"}, "init='zero' is unknown"),
        ({"init_std": 0.0}, "init_std=0.0 must be positive"),
        ({"init_std": float("nan")}, "init_std=nan must be"),
        ({"residual_scale": "n"}, "residual_scale='n' is unknown"),
        ({"grad_accum": 3}, "batch_size=2 is not divisible by grad_accum=3"),
        ({"grad_accum": 0}, "grad_accum=0 must be at least 1"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        TieConfig(**SMALL | wrong)
