"""Arguments as other programs hand them over: NumPy's numbers, paths, dictionaries, nonsense."""

import dataclasses
import enum
import json
import math
import typing
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import tiegym
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig

NUMPY = {int: np.int64, float: np.float32, bool: np.bool_, str: np.str_}


def fields_with_plain_values():
    given = {"loss_chunk": 4, "test_tokens": 100, "initial_weights": "model"}
    given |= {"quantize": "int8", "factorize": "tt:2"}
    config = TieConfig(**SMALL | given)
    return [(f.name, getattr(config, f.name)) for f in dataclasses.fields(config)]


@pytest.mark.parametrize(("name", "value"), fields_with_plain_values())
def test_every_field_takes_numpys_scalars_and_keeps_plain_values(name, value):
    given = NUMPY[type(value)](value)
    for scalar in (given, np.array(given)):
        config = TieConfig(**SMALL | {name: scalar})
        stored = getattr(config, name)
        assert type(stored) is type(value)
        assert stored == pytest.approx(value) if isinstance(value, float) else stored == value


def test_a_spec_of_numpys_scalars_is_json_and_rebuilds_the_environment(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat.\n" * 2000)
    arguments = {
        "n_layer": np.int64(4),
        "learning_rate": np.float32(1e-3),
        "weight_decay": np.float64(0.1),
        "compile": np.bool_(False),
        "reward": np.str_("neg_ppl"),
        "initial_ties": np.array([0, 0, 2, 2]),
        "corpus": text,
    }
    env = gymnasium.make("TieEnv-v0", **SMALL | arguments)
    written = env.spec.to_json()
    assert json.loads(written)["kwargs"]["initial_ties"] == [0, 0, 2, 2]
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(written))
    assert again.unwrapped.config == env.unwrapped.config
    assert again.spec.to_json() == written
    json.dumps(dataclasses.asdict(env.unwrapped.config))


def test_members_of_enumerations_become_what_they_stand_for():
    class Sizes(enum.IntEnum):
        LAYERS = 4

    class Rewards(enum.StrEnum):
        MINE = "neg_ppl"

    config = TieConfig(n_layer=Sizes.LAYERS, reward=Rewards.MINE)
    assert type(config.n_layer) is int
    assert type(config.reward) is str
    assert config == TieConfig(n_layer=4, reward="neg_ppl")


INTEGERS = [
    name
    for name, hint in typing.get_type_hints(TieConfig).items()
    if hint is int or int in typing.get_args(hint)
]
FLOATS = [name for name, hint in typing.get_type_hints(TieConfig).items() if hint is float]


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("size", [10**18, 10**30, 2**31, np.int64(2**62), np.uint64(2**63)])
def test_absurd_integers_are_refused_at_construction(name, size):
    with pytest.raises(ValueError, match=rf"{name}={int(size)} must be at most 2147483647"):
        tiegym.TieEnv(**SMALL | {name: size})


@pytest.mark.parametrize("name", [n for n in INTEGERS if n not in ("test_tokens", "loss_chunk")])
def test_large_integers_are_refused_in_words_or_work(name):
    for size in (10**9, 2**31 - 1):
        try:
            env = tiegym.TieEnv(**SMALL | {name: size, "corpus": "synthetic:20000"})
        except ValueError as error:
            assert name in str(error)  # noqa: PT017
        else:
            env.reset(seed=0)
            assert name in ("max_iters", "iters_per_step")


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("wrong", [4.0, np.float64(4.0), math.nan, math.inf, "4", True])
def test_what_is_no_integer_is_refused(name, wrong):
    with pytest.raises(ValueError, match=rf"{name}="):
        TieConfig(**SMALL | {name: wrong})


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, np.float32("nan"), 10**400, "1"])
def test_what_is_no_finite_number_is_refused(name, wrong):
    with pytest.raises(ValueError, match=name):
        TieConfig(**SMALL | {name: wrong})


def test_unknown_arguments_are_refused_in_pythons_own_words():
    words = r"TieEnv.__init__\(\) got an unexpected keyword argument 'n_layers'.*mean n_layer\?"
    with pytest.raises(TypeError, match=words):
        tiegym.TieEnv(**SMALL, n_layers=4)
    with pytest.raises(TypeError, match="unexpected keyword argument 'frameskip'"):
        gymnasium.make("TieEnv-v0", frameskip=1)  # as TorchRL's GymEnv probes


def test_arguments_in_a_dictionary_are_answered_with_what_to_do():
    with pytest.raises(TypeError, match=r"TieEnv\(\*\*config\).*register_env"):
        tiegym.TieEnv(SMALL)


def test_a_path_is_a_corpus(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat.\n" * 2000)
    config = TieConfig(corpus=Path(path))
    assert config.corpus == str(path)
