"""Agents that decide layer by layer where only layers of one kind may share weights."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from agents import decision_s4, qlearning
from agents.protocols import Greedy, kinds_on
from agents.qlearning import QLearning
from agents.qlearning_network import LayerPolicy, LayerQNetwork
from tests.tiegym.playing import MIXED
from tests.tiegym.small import SMALL
from tiegym import TieEnv
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run

WITHIN = {1: {1}, 2: {0, 2}, 3: {1, 3}}
"""The choices of each layer of the model."""

pytestmark = pytest.mark.filterwarnings("ignore:You provided an OpenAI Gym environment")


def config(**changes):
    pytest.importorskip("transformers")
    mixed = {"model": "gemma3_text", "model_config": json.dumps(MIXED)}
    return TieConfig(**SMALL | mixed | {"iters_per_step": 1, "max_iters": 40} | changes)


def agent(module, env, **changes):
    options = module.Options(env=env.config, runs_dir=Path("unused"), **changes)
    model = module.make_model(options, env)
    with torch.no_grad():
        for weights in model.policy.parameters():
            weights.add_(torch.randn_like(weights))  # untrained, its values are all nearly equal
    return model


@pytest.mark.parametrize("tie_parts", ["block", "attention+mlp"])
@pytest.mark.parametrize("module", [qlearning, decision_s4])
def test_the_best_action_is_never_a_tie_to_another_kind(module, tie_parts):
    env = TieEnv(**vars(config(tie_parts=tie_parts)))
    for seed in range(4):
        policy = Greedy(agent(module, env, seed=seed), env)
        observation, _ = env.reset(seed=seed)
        for _ in range(9):
            action, _ = policy.predict(observation)
            assert env.action_masks()[min(int(action), observation["layer"])]
            observation = env.step(int(action))[0]


def test_exploration_of_the_papers_agent_is_uniform_over_the_choices_of_its_kind():
    env = TieEnv(**vars(config()))
    model, rows = agent(qlearning, env), 1000
    model.exploration_rate = 1.0
    for layer, choices in WITHIN.items():
        seen = env.reset(seed=0)[0] | {"layer": np.int64(layer)}
        batch = {key: np.repeat(np.asarray(value)[None], rows, 0) for key, value in seen.items()}
        drawn, counts = np.unique(model.predict(batch)[0], return_counts=True)
        assert set(drawn.tolist()) == choices
        assert counts / rows == pytest.approx(1 / len(choices), abs=0.06)


@pytest.mark.parametrize("module", [qlearning, decision_s4])
def test_one_recorded_environment_has_one_kind(module):
    env = gymnasium.make("TieBench-v0", table="tree-3x4-stdlib-sum")
    assert kinds_on(env) is None
    model = agent(module, env.unwrapped)
    assert model.predict(env.reset(seed=0)[0], deterministic=True)[0] in range(3)


def test_a_saved_agent_knows_the_kinds(tmp_path):
    env = TieEnv(**vars(config()))
    model = agent(qlearning, env)
    model.save(tmp_path / "agent.zip")
    model.policy.save(tmp_path / "policy.pt")
    model.q_net.save(tmp_path / "network.pt")
    assert LayerQNetwork.load(tmp_path / "network.pt").actions == model.q_net.actions
    loaded = (QLearning.load(tmp_path / "agent.zip"), LayerPolicy.load(tmp_path / "policy.pt"))
    for policy in (loaded[0].policy, loaded[1]):
        assert policy.q_net.actions == model.q_net.actions
        for layer in WITHIN:
            seen = env.reset(seed=0)[0] | {"layer": np.int64(layer)}
            assert policy.predict(seen)[0] == model.policy.predict(seen)[0]


def test_settings_of_the_policy_leave_the_kinds_alone():
    env = TieEnv(**vars(config()))
    kinds = env.actions.kinds
    model = QLearning("LayerPolicy", env, kinds=kinds, policy_kwargs={"net_arch": [8]})
    assert model.q_net.actions.kinds == kinds


@pytest.mark.parametrize("module", [qlearning, decision_s4])
def test_what_a_program_decides_is_what_becomes_of_it(module, tmp_path):
    pretraining = {"pretrain_runs": 1} if module is decision_s4 else {}
    options = module.Options(
        env=config(max_iters=24), runs_dir=tmp_path, quiet=True, seed=1, **pretraining
    )
    folder = module.train(options)
    rows = read_run(folder).steps
    layers = [t % 3 + 1 for t in range(24)]
    decided = [min(row["action"], layer) for row, layer in zip(rows, layers, strict=True)]
    assert all(choice in WITHIN[layer] for layer, choice in zip(layers, decided, strict=True))
    assert decided == [row["ties"][layer] for row, layer in zip(rows, layers, strict=True)]
    if module is qlearning:  # each choice was made
        assert len(set(zip(layers, decided, strict=True))) == 5
