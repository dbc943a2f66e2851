"""Whatever is drawn: an environment says what is wrong, or works within its spaces.

`make fuzz` draws 2,000 configurations instead of 50, and steps 10,000 times instead of 200.
"""

import math
import os
from dataclasses import fields
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import tiegym
from tests.tiegym.small import SMALL
from tiegym import parts
from tiegym.config import TieConfig
from tiegym.features import FEATURES, POSITION_FEATURES
from tiegym.transformer.gpt import TiedTransformer
from tiegym.transformer.library_file import library_tensors
from tiegym.transformer.small_form import small_form

THOROUGH = bool(os.environ.get("TIEGYM_FUZZ"))
DRAWS = 2000 if THOROUGH else 50
STEPS = 10_000 if THOROUGH else 200

HINTS = get_type_hints(TieConfig)
NONSENSE = st.sampled_from([-1, 0, 1.5, True, None, "", "x", math.nan, math.inf, -math.inf, [], ()])
SENSIBLE = {
    "model": st.sampled_from(["gpt", "gpt", "llama", "bert", "no-such-model"]),
    "task": st.sampled_from(["auto", "auto", "masked-language-modeling", "classification", "x"]),
    "model_config": st.sampled_from(["{}", "{}", '{"attention_dropout": 0.1}', '{"x": 1}', "{"]),
    "n_layer": st.integers(1, 5),
    "n_head": st.integers(1, 3),
    "n_embd": st.integers(1, 24),
    "block_size": st.integers(1, 20),
    "dropout": st.floats(0, 0.99),
    "corpus": st.sampled_from(["synthetic:20000", "synthetic:300", "synthetic:1"]),
    "tokenizer": st.sampled_from(["bytes", "word", "word-2", "word-50", "bpe-257", "bpe-300"]),
    "batch_size": st.integers(1, 4),
    "grad_accum": st.integers(1, 4),
    "private": st.sampled_from(
        ["none", "norms", "scales", "lora:1", "lora:4+norms", "scales+norms+lora:2", "lora:30"]
    ),
    "features": st.lists(st.sampled_from(FEATURES + POSITION_FEATURES), min_size=1, max_size=6).map(
        "+".join
    ),
    "initial_weights": st.none(),
    "quantize": st.sampled_from([None, None, "int8", "int4", "int2"]),
    "factorize": st.sampled_from([None, None, "tt:1", "tt:3", "tt:30", "cp:2"]),
    "learning_rate": st.floats(1e-12, 1e12),
    "init_std": st.one_of(st.just(0.02), st.floats(1e-12, 1e12)),
    "warmup_iters": st.integers(0, 14),
    "weight_decay": st.floats(0, 1e6),
    "grad_clip": st.floats(0, 1e6),
    "iters_per_step": st.integers(1, 3),
    "max_iters": st.integers(1, 12),
    "initial_ties": st.one_of(
        st.sampled_from(["tied", "independent", "sandwich", "0,1"]),
        st.builds(
            "{}:{}".format, st.sampled_from(["cycle", "sequence", "cycle-rev"]), st.integers(0, 6)
        ),
        st.lists(st.integers(-1, 5), max_size=5),
    ),
    "param_cost": st.floats(0, 1e3),
    "eval_batches": st.integers(1, 3),
    "test_tokens": st.one_of(st.none(), st.integers(1, 300)),
    "divergence_loss": st.floats(0.01, 80),
    "device": st.sampled_from(["cpu", "auto", "cuda:99"]),
    "compile": st.just(False),  # a compilation takes half a minute
    "checkpoint_activations": st.booleans(),
    "loss_chunk": st.one_of(st.none(), st.integers(0, 40)),
}


def value(name):
    hint = HINTS[name]
    return st.sampled_from(get_args(hint)) if get_origin(hint) is Literal else SENSIBLE[name]


@st.composite
def configurations(draw):
    """Some arguments of their own, the others small; now and then one that is nonsense."""
    names = draw(st.lists(st.sampled_from([f.name for f in fields(TieConfig)]), unique=True))
    arguments = {name: draw(value(name)) for name in names}
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from([n for n in HINTS if n != "compile"]))
        arguments[name] = draw(NONSENSE)
    return arguments


def build(arguments):
    """The environment, or why there is none; any other error is a failure."""
    try:
        return tiegym.TieEnv(**arguments), ""
    except (ValueError, FileNotFoundError) as error:
        return None, str(error)


def check_step(env, result):
    observation, reward, terminated, truncated, info = result
    assert env.observation_space.contains(observation)
    assert type(reward) is float
    assert math.isfinite(reward)
    assert truncated is False
    known = {k: v for k, v in info.items() if terminated or not k.startswith("test_")}
    assert all(np.isfinite(v).all() for v in known.values() if not isinstance(v, str))
    return terminated


def check_invariants(env, info):
    """What always holds of a transformer and its tie vector."""
    n_layer = env.config.n_layer
    ties = parts.validate(info["ties"], n_layer, env.config.n_parts)
    model = env.model
    assert parts.roots(ties, n_layer).tolist() == model.roots
    first = [next(model.independent(root).parameters()) for root in model.roots]
    pointers = {weight.untyped_storage().data_ptr() for weight in first}
    assert len(pointers) == info["n_independent"] == parts.n_independent(ties, n_layer)
    frozen = info.get("frozen", np.zeros(len(ties), dtype=np.bool_))
    assert model.frozen == frozen.tolist()
    ours = isinstance(model, TiedTransformer)
    tensors = small_form(model) if ours else library_tensors(model)  # what is exported
    assert sum(tensor.nbytes for tensor in tensors.values()) == info["stored_bytes"]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == info["trainable_params"]
    if not ours:  # some weights may have no part in the task
        return
    dtype = model.token_embedding.dtype
    held = sum(p.numel() for p in model.blocks.parameters() if not p.requires_grad) * dtype.itemsize
    n_trained, n_mlp = parts.trained(ties, frozen, n_layer)
    expected = env._trainer.expected_state_bytes(n_trained, n_mlp) + held
    assert info["model_state_bytes"] == expected
    assert set(env.optimizer.state) == set(trained)


@settings(
    max_examples=DRAWS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(configurations(), st.integers(0, 2**31))
def test_any_configuration_is_refused_with_a_reason_or_works(arguments, seed):
    env, refusal = build(SMALL | arguments)
    event("works" if env else "is refused")
    if env is None:
        assert len(refusal) > 10
        return
    env.action_space.seed(seed)
    observation, _ = env.reset(seed=seed)
    assert env.observation_space.contains(observation)
    for _ in range(3):
        result = env.step(env.action_space.sample())
        if check_step(env, result):
            break


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
@pytest.mark.parametrize("tie_parts", ["block", "attention+mlp"])
@pytest.mark.parametrize("choices", ["tie", "tie+freeze"])
def test_any_sequence_of_actions_keeps_the_invariants(action, tie_grad, tie_parts, choices):
    play(action=action, tie_grad=tie_grad, tie_parts=tie_parts, choices=choices)


@pytest.mark.parametrize("tie_parts", ["block", "attention+mlp"])
@pytest.mark.parametrize("choices", ["tie", "tie+freeze"])
def test_any_sequence_of_soft_changes_keeps_the_invariants(tie_parts, choices):
    soft = {"private": "norms+scales+lora:2", "tie_change": "soft"}
    play(action="joint", tie_parts=tie_parts, choices=choices, **soft)


def play(**changes):
    env = tiegym.TieEnv(
        **SMALL
        | {"n_embd": 4, "block_size": 4, "batch_size": 1}
        | {"iters_per_step": 1, "max_iters": 50, "test_tokens": 8}
        | changes
    )
    env.action_space.seed(7)
    env.reset(seed=7)
    for _ in range(STEPS // 6):
        result = env.step(env.action_space.sample())
        terminated = check_step(env, result)
        check_invariants(env, result[4])
        if terminated:
            env.reset()


AWKWARD = {
    "empty lines": b"\n" * 5000,
    "NUL": b"a\0b\0" * 2000,
    "invalid UTF-8": bytes(range(256)) * 20,
    "one long line": b"word " * (2_000_000 if THOROUGH else 20_000),
    "carriage returns": b"a\r\nb\r" * 1000,
    "byte order mark": b"\xef\xbb\xbf" + b"text " * 1000,
    "one token": b"a",
    "empty": b"",
    "lone surrogates": b"\xed\xa0\x80" * 1000,
    "UTF-16": ("text " * 1000).encode("utf-16"),
}
REFUSED = {
    **{"one token": "split", "empty": "split", "NUL": "UTF-16", "UTF-16": "UTF-16"},
    **{"invalid UTF-8": "binary", "lone surrogates": "not UTF-8"},
}
"""What the refusal says; any other text may still be too short in tokens of words or pairs."""


@pytest.mark.parametrize("tokenizer", ["bytes", "word", "bpe-300"])
@pytest.mark.parametrize("name", AWKWARD)
def test_any_text_is_refused_with_a_reason_or_trains(tmp_path, monkeypatch, name, tokenizer):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "text.txt"
    path.write_bytes(AWKWARD[name])
    arguments = SMALL | {"corpus": str(path), "tokenizer": tokenizer, "block_size": 4}
    env, refusal = build(arguments)
    if env is None:
        assert REFUSED.get(name, "split") in refusal
        assert name in REFUSED or tokenizer != "bytes"
        return
    assert name not in REFUSED
    env.reset(seed=0)
    terminated = False
    while not terminated:
        terminated = check_step(env, env.step(1))
