"""Environments in which attention and MLP of a model of `transformers` share weights apart."""

import warnings

import numpy as np
import pytest
import torch
import transformers
from gymnasium.utils.env_checker import check_env

import tiegym
from tests.tiegym.playing import check_state_bytes, check_that_copies_go_on
from tests.tiegym.small import SMALL
from tests.tiegym.test_pretrained_models import pretrained, save

PARTS = {"tie_parts": "attention+mlp"}
ACTIONS = [1, 0, 0, 2, 3, 1, 0]
"""Of "layerwise": (1, attention), (1, MLP), (2, attention), ..."""


def test_copies_of_a_run_go_on_exactly(arguments, tmp_path):
    given = arguments("llama", initial_ties="cycle:2", max_iters=14, **PARTS)
    check_that_copies_go_on(given, ACTIONS, tmp_path)


@pytest.mark.parametrize("name", ["gpt2", "gemma3_text", "t5"])
def test_bytes_and_parameters_are_those_that_exist(name, arguments):
    given = arguments(name, choices="tie+freeze", **PARTS)
    env = tiegym.TieEnv(**given)
    _, info = env.reset(seed=0)
    for action in (0, 0, 1, 0, 0, 4, None):  # 4 freezes; the second MLP, in the end
        check_state_bytes(env, info)
        if action is not None:
            *_, info = env.step(action)


@pytest.mark.parametrize("name", ["gpt2", "gemma3_text", "bert"])
def test_both_forms_of_an_exported_model_compute_the_same(name, arguments, tmp_path):
    ties = (0, 1, 0, 1, 0, 0, 0, 3)
    given = arguments(name, initial_ties=ties, action="joint", **PARTS)
    env = tiegym.TieEnv(**given)
    env.reset(seed=0)
    env.step(np.array([1, 0, 1, 0, 1, 1]))
    (inputs, _), model = env._trainer.validation_set, env.model.eval()
    inputs = {n: v for n, v in inputs.items() if n not in env._trainer.workload._ignored}
    expected = model(**inputs).logits
    env.export(tmp_path / "m.safetensors")
    loaded = tiegym.load_model(tmp_path / "m.safetensors")
    assert torch.equal(loaded(**inputs).logits, expected)
    assert loaded.ties.tolist() == env.ties.tolist()
    count = [sum(p.numel() for p in each.parameters()) for each in (loaded, model)]
    assert count[0] == count[1]
    env.export(tmp_path / "hf", to="hf")
    auto = (
        transformers.AutoModelForMaskedLM if name == "bert" else transformers.AutoModelForCausalLM
    )
    theirs, loading = auto.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(loading.values())
    torch.testing.assert_close(theirs.eval()(**inputs).logits, expected)
    again = pretrained(tmp_path / "hf", initial_ties="saved", **PARTS)
    _, info = again.reset(seed=1)
    assert info["ties"].tolist() == env.ties.tolist()
    torch.testing.assert_close(again.model.eval()(**inputs).logits, expected)
    with pytest.raises(ValueError, match="those of parts: give tie_parts='attention"):
        pretrained(tmp_path / "hf", initial_ties="saved")


def test_parts_that_are_tied_at_the_start_take_the_first_or_the_mean(tmp_path):
    theirs = save(tmp_path, "gpt2").state_dict()
    ties = (0, 0, 0, 3, 0, 1, 1, 2)
    for merge, part, first, users in (
        ("first", "attn.c_attn.weight", 0, [0]),
        ("mean", "attn.c_attn.weight", 0, [0, 1, 2]),
        ("mean", "mlp.c_fc.weight", 1, [1, 2, 3]),
        ("mean", "ln_1.weight", 3, [3]),
    ):
        env = pretrained(tmp_path, initial_ties=ties, merge=merge, **PARTS)
        env.reset(seed=0)
        expected = torch.stack([theirs[f"transformer.h.{i}.{part}"] for i in users]).mean(0)
        mine = env.model.library.state_dict()[f"transformer.h.{first}.{part}"]
        torch.testing.assert_close(mine, expected)


def test_kinds_of_attention_are_no_kinds_of_mlps(arguments):
    of = {a: arguments("gemma3_text", action=a, **PARTS) for a in ("layerwise", "pair", "joint")}
    env = tiegym.TieEnv(**of["joint"])
    _, info = env.reset(seed=0)
    assert info["ties"].tolist() == [0, 1, 0, 1, 0, 0, 0, 0]  # "tied" as far as kinds allow
    attention = [False, True, *(True, False, True), *(False, True) * 2]
    assert env.action_masks().tolist() == attention + [True] * 9
    *_, info = env.step(np.array([0, 1, 2, 0, 1, 2]))
    assert info["ties"].tolist() == [0, 1, 0, 1, 0, 0, 1, 2]
    env = tiegym.TieEnv(**of["layerwise"])
    _, info = env.reset(seed=0)
    masks = []
    for action in (0, 0, 0, 0):
        masks.append(info["action_mask"].tolist())
        *_, info = env.step(action)
    assert masks == [[0, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 1, 0]]
    env = tiegym.TieEnv(**of["pair"])
    env.reset(seed=0)
    pairs = [j == i or (i - j) % 2 == 0 for i in range(4) for j in range(i + 1)]
    assert env.action_masks().tolist() == pairs + [True] * 10
    *_, info = env.step(10 + 1)  # the MLP of layer 1 is tied to that of layer 0
    assert info["ties"].tolist() == [0, 1, 0, 1, 0, 0, 0, 0]
    with pytest.raises(ValueError, match=r"two kinds.*Nearest is \(0, 1, 0, 1, 0, 0, 0, 1\)"):
        tiegym.TieEnv(**of["pair"] | {"initial_ties": (0, 1, 1, 1, 0, 0, 0, 1)})


def test_a_checker_of_environments_finds_nothing(arguments):
    features = "moved+similarity+gradient+agreement"
    given = arguments("gpt2", max_iters=6, action="pair", tie_grad="sum", features=features)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(tiegym.TieEnv(**given, choices="tie+freeze", **PARTS), skip_render_check=True)


def test_features_of_positions_are_those_of_the_part(arguments):
    given = arguments("llama", features="moved+taylor", dropout=0.0, iters_per_step=1, **PARTS)
    env = tiegym.TieEnv(**given, initial_ties="independent")
    env.reset(seed=0)
    env.step(1)  # next is the MLP of layer 1
    observation, *_ = env.step(1)  # and now the attention of layer 2
    taylor = observation["layer_stats"].reshape(8, 2)[:, 1]
    assert (taylor[:2] != 0).all()
    assert not taylor[2:].any()


def test_a_model_without_parts_says_so_at_construction():
    with pytest.raises(
        ValueError, match=r"of PhiDecoderLayer can't be told apart.*input_layernorm"
    ):
        tiegym.TieEnv(**SMALL | PARTS, model="phi")
