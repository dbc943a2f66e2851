from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import tiegym
from tests.tiegym.bench.conftest import TINY, options
from tiegym.bench import make as program
from tiegym.bench.command_line import table_env
from tiegym.bench.recorded import config_to_train, real_config
from tiegym.bench.table import write_table
from tiegym.data.sources import HUB, validate_corpus
from tiegym.features import FEATURES
from tiegym.runs.input_errors import InputError


def same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        assert np.asarray(a[key]).dtype == np.asarray(b[key]).dtype, key
        np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("reward", ["neg_log_ppl", "neg_ppl", "delta_ppl_params"])
def test_it_is_the_real_environment_bit_for_bit(tree_file, tree_table, reward):
    cost = {"param_cost": 0.1} if reward.endswith("params") else {}
    recorded = gymnasium.make("TieBench-v0", table=str(tree_file), reward=reward, **cost)
    config = {**tree_table.facts["config"], "corpus": "synthetic:20000", "reward": reward, **cost}
    real = gymnasium.make("TieEnv-v0", **config)
    assert recorded.action_space == real.action_space
    assert recorded.observation_space == real.observation_space
    with program.one_thread():
        for run, seed in enumerate(tree_table.seeds["train"]):
            observation, info = recorded.reset(options={"run": run})
            expected_observation, expected_info = real.reset(seed=seed)
            terminated, rng = False, np.random.default_rng(seed)
            while True:
                same(observation, expected_observation)
                same(info, expected_info)
                for key in info:
                    assert type(info[key]) is type(expected_info[key]), key
                masks = (env.unwrapped.action_masks() for env in (recorded, real))
                np.testing.assert_array_equal(*masks)
                if terminated:
                    break
                action = rng.integers(3)
                observation, reward, terminated, _, info = recorded.step(action)
                expected_observation, expected, ended, _, expected_info = real.step(action)
                assert reward == expected
                assert terminated == ended


def test_its_bits_per_byte_are_those_of_tokens_of_any_length(tmp_path):
    env = dataclasses.replace(TINY, tokenizer="bpe-300", test_tokens=300)
    path = program.make(options(tmp_path, "tree-2x2-tiny-owner", seeds=1, env=env))
    recorded = gymnasium.make("TieBench-v0", table=str(path)).unwrapped
    config = {**recorded.table.facts["config"], "corpus": "synthetic:20000"}
    real = tiegym.TieEnv(**config)
    recorded.reset(options={"run": 0})
    real.reset(seed=0)
    with program.one_thread():
        for action in (0, 1):
            infos = [env.step(action)[4] for env in (recorded, real)]
            same(*infos)
    assert infos[0]["test_bits_per_byte"] < math.inf


def test_both_checkers_are_clean(tree_file, recwarn):
    env = tiegym.bench.environment.TieBench(str(tree_file))
    check_env(env, skip_render_check=True)
    check_env_sb3(env)
    assert not [w for w in recwarn if "tiegym" in str(w.filename)]


def test_a_seed_fixes_the_draws_and_splits_have_their_own_runs(tree_file):
    env = gymnasium.make("TieBench-v0", table=str(tree_file), split="train").unwrapped
    draws = []
    for _ in range(2):
        env.reset(seed=4)
        losses = []
        for _ in range(8):
            env.reset()
            losses.append(env.step(0)[4]["val_loss"])
        draws.append(losses)
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 2
    held_out = gymnasium.make("TieBench-v0", table=str(tree_file), split="held-out").unwrapped
    held_out.reset()
    assert held_out.step(0)[4]["val_loss"] not in draws[0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"table": "nothing"}, FileNotFoundError, "table='nothing' is unknown"),
        ({"split": "test"}, ValueError, "split='test' is unknown"),
        ({"n_layer": 8}, ValueError, "n_layer=8: table 'tree-3x2-tiny-owner' was made with 3"),
        ({"learning_rate": 0.1}, ValueError, "was made with 0.01"),
        ({"nonsense": 1}, TypeError, "got an unexpected keyword argument 'nonsense'"),
        ({"param_cost": 1.0}, ValueError, "param_cost=1.0 has no effect"),
        ({"reward": "gold"}, ValueError, "gold"),
    ],
)
def test_wrong_arguments_are_refused(tree_file, arguments, error, message):
    given = {"table": str(tree_file), **arguments}
    for make in (gymnasium.make, lambda *a, **k: gymnasium.make_vec(*a, num_envs=2, **k)):
        with pytest.raises(error, match=message):
            make("TieBench-v0", **given)


def rewritten(table, path, **config):
    """The path of a copy of a table with other arguments in its record; None takes one out."""
    known = {**table.facts["config"], **config}
    kept = {name: value for name, value in known.items() if value is not None}
    write_table(path, dataclasses.replace(table, facts={**table.facts, "config": kept}))
    return str(path)


def test_a_table_that_does_not_name_later_arguments_has_their_defaults(tree_table, tmp_path):
    path = rewritten(tree_table, tmp_path / "old.npz", tie_parts=None, choices=None, features=None)
    for given in ({}, {"tie_parts": "block", "choices": "tie"}):
        env = gymnasium.make("TieBench-v0", table=path, **given)
        assert env.unwrapped.config.tie_parts == "block"
        assert env.unwrapped.config.feature_names == FEATURES
        assert env.reset(seed=0)[1]["val_loss"] > 0
    with pytest.raises(
        ValueError, match="tie_parts='attention\\+mlp': table 'tree-3x2-tiny-owner'"
    ):
        gymnasium.make("TieBench-v0", table=path, tie_parts="attention+mlp")


@pytest.mark.parametrize(
    "kind", [{"tie_parts": "attention+mlp"}, {"choices": "tie+freeze"}, {"features": "moved"}]
)
def test_a_table_of_another_kind_of_decisions_is_refused(tree_table, tmp_path, kind):
    path = rewritten(tree_table, tmp_path / "other.npz", **kind)
    with pytest.raises(ValueError, match="TieBench has whole blocks that share weights or train"):
        gymnasium.make("TieBench-v0", table=path)


def test_a_table_of_patterns_is_no_environment(patterns_file):
    with pytest.raises(ValueError, match="holds fixed sharings and no decisions"):
        gymnasium.make("TieBench-v0", table=str(patterns_file))


@pytest.mark.parametrize(
    "files",
    [
        {"corpus": "/etc/hostname"},
        {"corpus": "../secrets"},
        {"corpus": ".."},
        {"corpus": "texts/mine"},
        {"corpus": ["stdlib"]},
        {"tokenizer": "/tmp/tokenizer.json"},
        {"tokenizer": "tokenizer.json"},
        {"tokenizer": ["bytes"]},
    ],
)
def test_a_table_chooses_no_files(tree_table, tmp_path, files):
    path = rewritten(tree_table, tmp_path / "hostile.npz", **files)
    with pytest.raises(ValueError, match="a table may not name files"):
        real_config(path)
    with pytest.raises(ValueError, match="a table may not name files"):
        gymnasium.make("TieBench-v0", table=path)


@pytest.mark.parametrize("word", ["secrets.txt", "data", "mine"])
def test_the_word_of_a_table_for_its_text_opens_no_file(tree_table, tmp_path, monkeypatch, word):
    path = rewritten(tree_table, tmp_path / "hostile.npz", corpus=word)
    (tmp_path / word).write_text("what nobody is to read " * 400)
    monkeypatch.chdir(tmp_path)
    assert gymnasium.make("TieBench-v0", table=path).reset(seed=0)[1]["val_loss"] > 0
    assert real_config(path).corpus == word
    with pytest.raises((OSError, ValueError), match="'table:tree-3x2-tiny-owner'"):
        validate_corpus(config_to_train(path).corpus)
    for arguments in (["--table", path], ["--table", path, "--env.n-layer", "3"]):
        with pytest.raises(InputError, match=r"needs the text .*: give it with --env\.corpus"):
            table_env(arguments)
    assert table_env(["--table", path, "--env.corpus", word]).n_layer == 3  # the user's own word


@pytest.mark.parametrize("name", ["stdlib", *HUB, "synthetic:20000", "nested:3", "hf:owner/name:x"])
def test_a_name_that_means_the_same_everywhere_is_followed(tree_table, tmp_path, name):
    path = rewritten(tree_table, tmp_path / "named.npz", corpus=name)
    assert config_to_train(path) == real_config(path)
    assert table_env(["--table", path]).corpus == name


def test_wrong_runs_options_and_steps_are_refused(tree_file):
    env = gymnasium.make("TieBench-v0", table=str(tree_file)).unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    for run in (2, -1, 2**70):
        with pytest.raises(ValueError, match=r"has the runs 0 to 1|run must be an integer"):
            env.reset(options={"run": run})
    for run in (True, 0.0, "0", [0, 1], [[0], [0, 1]], {}):
        with pytest.raises(ValueError, match="run must be an integer"):
            env.reset(options={"run": run})
    with pytest.raises(ValueError, match="reset knows run, not"):
        env.reset(options={"seed": 2})
    env.reset()
    with pytest.raises(ValueError, match="action=3 is not in"):
        env.step(3)
    for _ in range(4):
        env.step(0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)


def test_it_needs_no_torch(tree_file):
    code = (
        "import sys, gymnasium, tiegym\n"
        f"env = gymnasium.make('TieBench-v0', table={str(tree_file)!r})\n"
        "env.reset(); env.step(1)\n"
        f"envs = gymnasium.make_vec('TieBench-v0', num_envs=2, table={str(tree_file)!r})\n"
        "envs.reset(); envs.step(envs.action_space.sample())\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_many_at_once_are_many_single_ones(tree_file, mode):
    many = gymnasium.make_vec("TieBench-v0", num_envs=5, table=str(tree_file), autoreset_mode=mode)
    singles = [gymnasium.make("TieBench-v0", table=str(tree_file)).unwrapped for _ in range(5)]
    rng = np.random.default_rng(0)
    observations, _ = many.reset(seed=0)

    def runs():
        return many.unwrapped._run.tolist()

    expected = [s.reset(options={"run": run})[0] for s, run in zip(singles, runs(), strict=True)]
    ended = np.zeros(5, dtype=bool)
    for _ in range(20):
        for k, single in enumerate(expected):
            for key, value in single.items():
                np.testing.assert_array_equal(observations[key][k], value)
        assert many.observation_space.contains(observations)
        actions = rng.integers(3, size=5)
        observations, rewards, terminations, truncations, infos = many.step(actions)
        assert not truncations.any()
        for k, env in enumerate(singles):
            if mode is AutoresetMode.NEXT_STEP and ended[k]:
                expected[k], info = env.reset(options={"run": runs()[k]})
                reward, done = 0.0, False
            else:
                expected[k], reward, done, _, info = env.step(actions[k])
            assert rewards[k] == reward
            assert terminations[k] == done
            where = infos
            if mode is AutoresetMode.SAME_STEP and done:
                assert infos["_final_obs"][k]
                for key, value in expected[k].items():
                    np.testing.assert_array_equal(infos["final_obs"][k][key], value)
                where = infos["final_info"]
            for key, value in info.items():
                assert where[f"_{key}"][k], key
                np.testing.assert_allclose(where[key][k], value, rtol=1e-15)
            if mode is AutoresetMode.SAME_STEP and done:
                expected[k], _ = env.reset(options={"run": runs()[k]})
        ended = terminations
    assert ended is not None


def test_wrong_runs_and_seeds_of_many_are_refused(tree_file):
    many = gymnasium.make_vec("TieBench-v0", num_envs=3, table=str(tree_file)).unwrapped
    for run in (True, 0.0, "0", [0, 1], [0, 1, 0, 1], [0.0, 1.0, 0.0], [[0], [0, 1], []], [], {}):
        with pytest.raises(ValueError, match="run must be an integer, or 3 of them"):
            many.reset(options={"run": run})
    for run in (2, -1, (0, 1, 2)):
        with pytest.raises(ValueError, match=r"the train split of table .* has the runs 0 to 1"):
            many.reset(options={"run": run})
    with pytest.raises(ValueError, match="must have 3 seeds, one a member"):
        many.reset(seed=[0, 1])
    for run in (1, (1, 0, 1), np.array([1, 0, 1], dtype=np.uint8)):
        many.reset(options={"run": run})
        assert many._run.tolist() == np.broadcast_to(run, 3).tolist()


def test_wrong_actions_of_many_are_refused(tree_file):
    many = gymnasium.make_vec("TieBench-v0", num_envs=2, table=str(tree_file)).unwrapped
    with pytest.raises(gymnasium.error.ResetNeeded):
        many.step(np.array([0, 0]))
    many.reset()
    for wrong in (np.array([0, 3]), np.array([-1, 0]), np.array([0]), np.array([0.5, 1.0])):
        with pytest.raises(ValueError, match="actions="):
            many.step(wrong)
