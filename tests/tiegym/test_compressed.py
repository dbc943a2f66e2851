"""Environments with quantised matrices and tensor trains: state, files, figures and refusals."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors import safe_open

import tiegym
from tests.tiegym.exported import tensor_bytes
from tests.tiegym.playing import check_that_copies_go_on, play
from tests.tiegym.small import SMALL
from tests.tiegym.test_fuzz import check_invariants
from tiegym.transformer import tensor_file

QUANTIZED = SMALL | {"quantize": "int4", "action": "joint"}
TRAINS = SMALL | {"factorize": "tt:4", "action": "joint"}
BOTH = QUANTIZED | TRAINS | {"private": "norms+lora:2", "dropout": 0.1, "grad_accum": 2}
KINDS = {"int4": QUANTIZED, "int8": QUANTIZED | {"quantize": "int8"}, "tt": TRAINS, "both": BOTH}
ACTIONS = [[1, 1, 3], [0, 2, 2], [1, 0, 3], [1, 1, 1], [0, 0, 0], [1, 2, 3]]
TOKENS = torch.arange(32).view(2, 16)


def begun(arguments, n_steps=0):
    env = tiegym.TieEnv(**arguments)
    env.reset(seed=0)
    play(env, ACTIONS[:n_steps])
    return env


def logits(model):
    with torch.no_grad():
        return model.eval()(TOKENS)


@pytest.mark.parametrize("kind", ["int4", "both"])
def test_every_copy_goes_on_to_the_same_bits(kind, tmp_path):
    check_that_copies_go_on(KINDS[kind], ACTIONS, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_model_has_the_small_form_and_the_same_logits(kind, tmp_path):
    env = begun(KINDS[kind], 4)
    info = env.step(np.array(ACTIONS[4]))[4]
    env.export(tmp_path / "m")
    assert tensor_bytes(tmp_path / "m") == info["stored_bytes"]
    loaded = tiegym.load_model(tmp_path / "m")
    assert loaded.shape == env.model.shape
    assert torch.equal(logits(loaded), logits(env.model))
    assert torch.equal(tiegym.generate(loaded, TOKENS, 5), tiegym.generate(env.model, TOKENS, 5))
    start = {"initial_weights": str(tmp_path / "m"), "initial_ties": tuple(env.ties.tolist())}
    other = begun(KINDS[kind] | start)
    assert torch.equal(logits(other.model), logits(loaded))


def test_the_small_form_is_as_small_as_it_is_said_to_be(tmp_path):
    """By hand: width 16, 4 layers of which 2 have weights, 256 tokens, context 16."""
    whole = (256 + 16 + 2) * 16 + 2 * (9 + 4) * 16  # embeddings, norms and biases
    matrices = 2 * 12 * 16**2
    sizes = {}
    for name, quantize in (("none", None), ("int8", "int8"), ("int4", "int4")):
        env = begun(SMALL | {"quantize": quantize}, 0)
        sizes[name] = env.step(1)[4]["stored_bytes"]
        env.export(tmp_path / name)
        assert tensor_bytes(tmp_path / name) == sizes[name]
    steps = 2 * 4 * 4
    assert sizes == {
        "none": 4 * whole + 4 * matrices,
        "int8": 4 * whole + matrices + steps,
        "int4": 4 * whole + matrices // 2 + steps,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_of_what_is_held(kind):
    env = begun(KINDS[kind])
    infos = [env.step(np.array(action))[4] for action in [[0, 0, 0], *ACTIONS[:4]]]
    check_invariants(env, infos[-1])
    before, after = infos[0], env.step(np.array(ACTIONS[5]))[4]
    check_invariants(env, after)
    assert after["n_independent"] > before["n_independent"]
    for key in ("trainable_params", "model_state_bytes", "stored_bytes"):
        assert after[key] > before[key]


@pytest.mark.parametrize("kind", ["int8", "both"])
@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_parts_freezing_and_features_go_with_them(kind, tie_grad):
    features = "moved+similarity+gradient+taylor" + ("+agreement" if tie_grad == "sum" else "")
    env = tiegym.TieEnv(
        **KINDS[kind]
        | {"tie_parts": "attention+mlp", "choices": "tie+freeze", "action": "layerwise"}
        | {"tie_grad": tie_grad, "features": features}
    )
    observation, info = env.reset(seed=0)
    env.action_space.seed(0)
    terminated = False
    while not terminated:
        action = env.action_space.sample(mask=info["action_mask"])
        observation, _, terminated, _, info = env.step(action)
        assert env.observation_space.contains(observation)
        check_invariants(env, info)


def test_a_model_for_transformers_has_plain_matrices_and_the_same_logits(tmp_path):
    transformers = pytest.importorskip("transformers")
    env = begun(BOTH, 4)
    env.export(tmp_path / "hf", to="hf")
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "hf")
    with torch.no_grad():
        theirs = model.eval()(TOKENS).logits
    torch.testing.assert_close(theirs, logits(env.model), rtol=1e-4, atol=1e-5)


def test_an_untouched_model_is_the_start_of_a_compressed_one(tmp_path):
    """A trained dense model becomes tensor trains of full rank without loss, and of less with."""
    dense = begun(SMALL | {"action": "joint"}, 4)
    dense.export(tmp_path / "m")
    ties = {"initial_ties": tuple(dense.ties.tolist()), "initial_weights": str(tmp_path / "m")}
    errors = {}
    for rank in (2, 8, 16):
        env = begun(TRAINS | ties | {"factorize": f"tt:{rank}"})
        errors[rank] = (logits(env.model) - logits(dense.model)).abs().max().item()
    assert errors[16] < 1e-5 < errors[8] < errors[2]
    env = begun(QUANTIZED | ties | {"quantize": "int8"})
    assert 0 < (logits(env.model) - logits(dense.model)).abs().max().item() < 0.05
    env.export(tmp_path / "int8")
    ties["initial_weights"] = str(tmp_path / "int8")
    again = begun(SMALL | {"action": "joint"} | ties)  # and back: the rounded weights, kept whole
    assert torch.equal(logits(again.model), logits(env.model))


def test_init_admin_balances_the_branches_of_the_weights_that_are_used():
    env = begun(SMALL | {"quantize": "int4", "private": "scales", "init": "admin"})
    model = env.model
    x = torch.randint(0, 256, (2, 16), generator=torch.Generator().manual_seed(0))
    gains = torch.stack([part.get_parameter("mlp_scale")[0] for part in model.private])
    assert (gains > 0).all()
    assert torch.isfinite(model(x)).all()


def test_quantised_and_factorised_models_learn():
    """Loss falls clearly below that of a uniform guess, with few bits and a low rank, too."""
    for arguments in ({"quantize": "int4"}, {"factorize": "tt:4"}):
        env = begun(SMALL | {"max_iters": 120, "iters_per_step": 60, "batch_size": 8} | arguments)
        for _ in range(2):
            info = env.step(1)[4]
        assert info["val_loss"] < 0.8 * math.log(256)
        if env.config.quantize:
            steps = {n: p for n, p in env.model.named_parameters() if n.endswith("log_step")}
            first = begun(env.config.__dict__).model
            moved = [(p - first.get_parameter(n)).abs() for n, p in steps.items() if ".0." in n]
            assert 0.01 < torch.stack(moved).max() < 1  # they learn, and none runs away


def test_a_checkpoint_of_another_compression_is_refused(tmp_path):
    env = begun(QUANTIZED, 1)
    env.save_checkpoint(tmp_path / "here.safetensors")
    for other in (QUANTIZED | {"quantize": "int8"}, SMALL | {"action": "joint"}):
        with pytest.raises(ValueError, match=r"quantize \('int4' there"):
            tiegym.TieEnv(**other).load_checkpoint(tmp_path / "here.safetensors")


def test_without_compression_the_file_is_that_of_older_versions(tmp_path):
    for arguments, names in ((SMALL, set()), (TRAINS, {"factorize"}), (QUANTIZED, {"quantize"})):
        begun(arguments).export(tmp_path / "m")
        with safe_open(tmp_path / "m", framework="pt") as file:
            values = json.loads(file.metadata()["values"])
        older = {"vocab_size", "n_layer", "n_head", "n_embd", "block_size"}
        assert set(values["shape"]) == older | names


def log_step(number):
    def change(values, tensors):
        name = "blocks.0.mlp_in_weight_core_2_log_step"
        tensors[name] = torch.tensor(number)

    return change


def shape(**changes):
    return lambda values, tensors: values["shape"].update(changes)


def tensor(name, value):
    return lambda values, tensors: tensors.update({f"blocks.0.{name}": value})


HOSTILE = {
    "a step that is no number": log_step(math.nan),
    "a step of zero": log_step(-math.inf),
    "an infinite step": log_step(math.inf),
    "a step beyond float32": log_step(87.0),
    "a step below float32": log_step(-100.0),
    "a step for each row": log_step([0.0, 0.0]),
    "a step of integers": log_step(1),
    "a step less": lambda v, t: t.pop("blocks.0.qkv_weight_core_0_log_step"),
    "a core less": lambda v, t: t.pop("blocks.0.qkv_weight_core_5"),
    "a core of floats": tensor("qkv_weight_core_0", torch.zeros(1, 4, 4)),
    "a core of whole bytes": tensor("qkv_weight_core_0", torch.zeros(16, dtype=torch.int8)),
    "a core of too many": tensor("qkv_weight_core_0", torch.zeros(9, dtype=torch.uint8)),
    "another rank": shape(factorize="tt:3"),
    "a huge rank": shape(factorize="tt:999999999"),
    "no rank": shape(factorize="tt:0"),
    "a number for a train": shape(factorize=4),
    "a list for a train": shape(factorize=["tt:4"]),
    "no train": shape(factorize=None),
    "thirty thousand layers": lambda v, t: (
        shape(n_layer=30_000)(v, t),
        v.update(ties=list(range(30_000))),
    ),
    "other bits": shape(quantize="int8"),
    "unknown bits": shape(quantize="int3"),
    "a list of bits": shape(quantize=["int4"]),
    "no bits": shape(quantize=None),
    "a width without factors": shape(n_embd=2**31 - 2, n_head=1),
    "half precision": lambda v, t: t.update(
        {n: x.half() for n, x in t.items() if x.is_floating_point()}
    ),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m"
    begun(QUANTIZED | TRAINS).export(path)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_model_is_refused_in_words(exported, tmp_path, name):
    tensors, values = tensor_file.read_tensors(exported, "model")
    HOSTILE[name](values, tensors)
    tensor_file.write_tensors(tmp_path / "m", "model", tensors, values)
    with pytest.raises(ValueError, match="m' is damaged"):
        tiegym.load_model(tmp_path / "m")


def test_a_model_that_diverged_is_written_and_refused_when_it_is_read(tmp_path):
    env = begun(QUANTIZED, 1)
    with torch.no_grad():
        for p in env.model.parameters():
            p.fill_(math.nan)
    env.export(tmp_path / "m")
    with pytest.raises(ValueError, match=r"log_step is nan.*a run that diverged, perhaps"):
        tiegym.load_model(tmp_path / "m")


@pytest.mark.parametrize("factorize", [None, "tt:16"])
def test_the_dtype_of_training_is_that_of_the_loaded_model(tmp_path, factorize):
    arguments = QUANTIZED | {"factorize": factorize, "dtype": "bfloat16-mixed"}
    env = begun(arguments, 2)
    env.export(tmp_path / "m")
    assert torch.equal(logits(tiegym.load_model(tmp_path / "m")), logits(env.model))


def test_tensor_trains_can_be_of_bfloat16(tmp_path):
    env = begun(TRAINS | {"dtype": "bfloat16"}, 2)
    env.export(tmp_path / "m")
    assert torch.equal(logits(tiegym.load_model(tmp_path / "m")), logits(env.model))
    assert np.isfinite(env._info()["val_loss"])
