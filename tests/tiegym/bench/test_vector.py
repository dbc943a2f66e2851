"""Many recorded runs at once: their seeds, their ends, and what they may be made with."""

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode

from tests.tiegym.small import SMALL
from tiegym.bench.environment import TieBench


def many_of(tree_file, **arguments):
    given = {"num_envs": 3, "table": tree_file, **arguments}
    return gymnasium.make_vec("TieBench-v0", **given)


def test_a_seed_of_none_goes_on_with_the_stream_there_is(tree_file):
    def runs():
        many = many_of(tree_file, num_envs=40).unwrapped
        many.reset(seed=0)
        many.reset(seed=[None] * 40)
        again = many._run.tolist()
        many.reset()
        return again, many._run.tolist()

    assert runs() == runs()
    first, second = runs()
    assert first != second  # of 40 draws of two
    one = many_of(tree_file, num_envs=40).unwrapped
    one.reset(seed=[3] * 40)
    assert len(set(one._run.tolist())) == 1


def test_what_a_caller_does_with_ends_changes_no_episode(tree_file):
    many = many_of(tree_file)
    many.reset(seed=0)
    ended = np.zeros(3, dtype=np.bool_)
    while not ended.any():
        _, _, ended, _, _ = many.step(np.zeros(3, dtype=np.int64))
    ended[:] = False
    observations, rewards, ended, _, infos = many.step(np.zeros(3, dtype=np.int64))
    assert not ended.any()
    assert (observations["budget"] == 0).all()
    assert (rewards == 0).all()
    assert (infos["iteration"] == 0).all()


@pytest.mark.parametrize("kind", ["TieBench-v0", "TiePopulation-v0"])
@pytest.mark.parametrize(
    "mode", [AutoresetMode.SAME_STEP, "SAME_STEP", "SameStep", "NEXT_STEP", "NextStep"]
)
def test_modes_have_names_and_specs_are_plain(tree_file, kind, mode):
    own = {"table": tree_file} if kind == "TieBench-v0" else {**SMALL, "dropout": np.float32(0.5)}
    many = gymnasium.make_vec(kind, num_envs=np.int64(2), autoreset_mode=mode, **own)
    wanted = getattr(mode, "value", mode).replace("_", "").lower()
    assert many.metadata["autoreset_mode"].value.lower() == wanted
    again = gymnasium.make_vec(EnvSpec.from_json(many.unwrapped.spec.to_json()))
    assert again.num_envs == 2
    assert again.metadata["autoreset_mode"] is many.metadata["autoreset_mode"]
    assert again.unwrapped.config == many.unwrapped.config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"autoreset_mode": "never"}, "autoreset_mode='never': choose NEXT_STEP or SAME_STEP"),
        ({"autoreset_mode": AutoresetMode.DISABLED}, "choose NEXT_STEP or SAME_STEP"),
        ({"num_envs": 2.0}, r"num_envs=2.0 must be a number of members"),
        ({"num_envs": 0}, r"num_envs=0 must be a number of members, at least 1"),
        ({"num_envs": True}, r"num_envs=True must be a number of members"),
        ({"render_mode": "human"}, "render_mode='human': a table shows nothing"),
    ],
)
def test_what_there_cannot_be_is_an_error_that_says_what_there_can(tree_file, arguments, message):
    with pytest.raises(ValueError, match=message):
        many_of(tree_file, **arguments)


def test_one_shows_nothing_either(tree_file):
    with pytest.raises(ValueError, match="render_mode='human': a table shows nothing"):
        TieBench(tree_file, render_mode="human")
    env = gymnasium.make("TieBench-v0", table=tree_file)
    again = gymnasium.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.table is env.unwrapped.table
