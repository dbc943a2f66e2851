"""The features of observations: chosen by name, exact, and without a trace in the training."""

import itertools
import json
import warnings

import gymnasium
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import tiegym
from tests.tiegym.private_reference import PrivateReference
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig, default_arguments
from tiegym.features import FEATURES, POSITION_FEATURES, parse
from tiegym.transformer.layer_stats import sampled

EVERY = "+".join(FEATURES + POSITION_FEATURES)
NEEDS = {
    "agreement": {"tie_grad": "sum"},
    "taylor": {"tie_grad": "owner"},
    "agreement+taylor": {"tie_grad": "sum"},
    "gradient+agreement": {"tie_grad": "sum", "action": "pair"},
    "moved+agreement": {"tie_grad": "sum", "action": "joint"},
}
SHARINGS = list(itertools.product(("block", "attention+mlp"), ("tie", "tie+freeze")))


def begun(**changes):
    env = tiegym.TieEnv(**SMALL | changes)
    env.reset(seed=0)
    env.action_space.seed(0)
    return env


def stats(observation, env):
    """By name, an entry for each unit."""
    names = env.config.feature_names
    return dict(zip(names, observation["layer_stats"].reshape(-1, len(names)).T, strict=True))


def test_the_default_is_the_default_features():
    assert TieConfig().feature_names == FEATURES
    assert default_arguments()["features"] == "+".join(FEATURES)


@pytest.mark.parametrize("sharing", SHARINGS, ids=str)
@pytest.mark.parametrize("features", NEEDS)
def test_the_checkers_pass_without_a_warning(features, sharing):
    tie_parts, choices = sharing
    changes = {"features": features, "tie_parts": tie_parts, "choices": choices}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make("TieEnv-v0", **SMALL | NEEDS[features] | changes).unwrapped
        gymnasium_check_env(env)
        sb3_check_env(env)
    n_units = 8 if tie_parts == "attention+mlp" else 4
    observation, _ = env.reset(seed=0)
    assert observation["layer_stats"].shape == (n_units * len(parse(features)),)
    assert not observation["layer_stats"].any()


def test_names_come_in_the_order_of_an_observation_however_they_are_written():
    env = gymnasium.make(
        "TieEnv-v0", **SMALL | {"features": "taylor+moved+agreement", "tie_grad": "sum"}
    )
    assert env.unwrapped.config.feature_names == ("moved", "agreement", "taylor")
    written = env.spec.to_json()
    assert json.loads(written)["kwargs"]["features"] == "moved+agreement+taylor"
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(written))
    assert again.unwrapped.config == env.unwrapped.config
    assert again.observation_space == env.observation_space


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"features": "moved+speed"}, "has 'speed', which is unknown: join some of moved, sim"),
        ({"features": ""}, "has '', which is unknown"),
        ({"features": "moved+"}, "has '', which is unknown"),
        ({"features": "moved+gradient+moved"}, "has moved twice: give it once"),
        ({"features": ("moved",)}, "must be of type str"),
        ({"features": "agreement"}, "tie_grad='owner' none are: choose tie_grad=\"sum\""),
        ({"features": "taylor", "action": "pair"}, "action='pair' none is known: choose action"),
        ({"features": "taylor", "action": "joint"}, "action='joint' none is known: choose"),
    ],
)
def test_wrong_features_are_refused_at_construction(wrong, message):
    with pytest.raises(ValueError, match=message):
        TieConfig(**SMALL | wrong)


RUNS = {
    "plain": {},
    "owner": {"tie_grad": "owner", "features": "taylor+" + "+".join(FEATURES)},
    "parts and freezing": {"tie_parts": "attention+mlp", "choices": "tie+freeze"},
    "soft": {"private": "norms+scales+lora:2", "tie_change": "soft"},
    "checkpointed": {"checkpoint_activations": True, "dropout": 0.2},
    "micro-batches": {"grad_accum": 2},
    "bfloat16-mixed": {"dtype": "bfloat16-mixed"},
    "bfloat16": {"dtype": "bfloat16", "checkpoint_activations": True},
    "independent": {"initial_ties": "independent", "grad_clip": 0.01},
}


@pytest.mark.parametrize("run", RUNS)
def test_features_leave_no_trace_in_the_training(run):
    asked = {"tie_grad": "sum", "features": EVERY} | RUNS[run]
    plain = begun(**asked | {"features": "+".join(FEATURES)})
    env = begun(**asked)
    for _ in range(6):
        action = env.action_space.sample()
        expected, reward, *_ = plain.step(action)
        observation, its, *_ = env.step(action)
        assert its == reward
        for name, figures in stats(expected, plain).items():
            assert np.array_equal(stats(observation, env)[name], figures)
    for p, mine in zip(plain.model.parameters(), env.model.parameters(), strict=True):
        assert torch.equal(p, mine)


def test_with_owner_gradients_and_low_rank_terms_the_trace_is_a_rounding():
    # Beside constants the term's gradient is computed in another order.
    changes = {"private": "lora:2", "choices": "tie+freeze"}
    rewards = []
    for features in ("moved", "taylor"):
        env = begun(features=features, **changes)
        rewards.append([env.step(action)[1] for action in (0, 0, 1, 0, 4, 1)])
    assert rewards[1] == pytest.approx(rewards[0], rel=1e-6)


def gradients_of_the_last_batch(env, action):
    """Of copied weights at each position, in what the next step's last iteration sees."""
    assert env.model is not None  # which begins the run, and its random streams
    twin = env.fork()
    config, trainer = env.config, twin._trainer
    state = trainer._batches.get_state()
    inputs, targets = trainer.workload.data.sample(
        "train", config.iters_per_step * config.batch_size, config.block_size, trainer._batches
    )
    trainer._batches.set_state(state)
    twin.step(action)  # weights that hardly move: those that the last iteration begins with
    reference = PrivateReference(twin.model, config.tie_grad, False, 1, 1, 1)
    for p in reference.weights().values():
        p.requires_grad_()
    last = slice(-config.batch_size, None)
    F.cross_entropy(
        reference.logits(inputs[last]).flatten(0, 1), targets[last].flatten()
    ).backward()
    return [{name: p.grad for name, p in shared.items()} for shared in reference.shared]


@pytest.mark.parametrize("more", [{}, {"grad_accum": 2}, {"private": "norms"}], ids=str)
@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_the_figures_of_a_step_are_what_they_say(tie_grad, more):
    names = ("agreement", "taylor") if tie_grad == "sum" else ("taylor",)
    changes = {"tie_grad": tie_grad, "features": "+".join(names), "learning_rate": 1e-9} | more
    env = begun(initial_ties="independent", weight_decay=0.0, **changes)
    seen = 0
    for action in (1, 1, 1, 0, 2, 2):  # the cursor then is 2, 3, 1, 2, 3, 1
        at = gradients_of_the_last_batch(env, action)
        observation, *_ = env.step(action)
        figures, cursor, roots = stats(observation, env), observation["layer"], env.model.roots
        own = [dict(env.model.independent(root).named_parameters()) for root in roots]
        if tie_grad == "sum":
            samples = [torch.cat([sampled(g) for g in of.values() if g.ndim == 2]) for of in at]
            for layer, root in enumerate(roots):
                total = sum(s for s, r in zip(samples, roots, strict=True) if r == root)
                cosine = F.cosine_similarity(samples[layer], total, dim=0).item()
                assert figures["agreement"][layer] == pytest.approx(cosine, abs=1e-4)
        ties = env.ties.tolist()
        follow = [k for k in range(4) if k == cursor or (k > cursor and ties[k] == cursor)]
        for target in range(4):
            change = sum(
                (at[k][name] * (own[target][name] - own[cursor][name])).sum().item()
                for k in follow
                for name in own[cursor]
            )
            change = np.tanh(10 * change) if target < cursor else 0
            assert figures["taylor"][target] == pytest.approx(change, rel=1e-3, abs=1e-5)
            seen += abs(change) > 1e-3
    assert seen > 4


def test_of_parts_the_targets_are_those_of_the_same_kind():
    changes = {"tie_parts": "attention+mlp", "features": "taylor"}
    env = begun(initial_ties="independent", **changes)
    observation, *_ = env.step(1)
    while observation["layer"] != 3:
        observation, *_ = env.step(int(observation["layer"]))
    for _ in range(2):
        targets = np.flatnonzero(observation["layer_stats"])
        assert targets.tolist() == [4 * observation["part"] + j for j in range(3)]
        observation, *_ = env.step(3)


def test_a_frozen_layer_has_a_gradient_at_its_position_all_the_same():
    env = begun(initial_ties="independent", choices="tie+freeze", features="taylor")
    for action in (4, 4, 4, 4, 4):  # all frozen, and the cursor on layer 1
        observation, *_ = env.step(action)
    assert observation["layer"] == 1
    assert np.flatnonzero(observation["layer_stats"]).tolist() == [0]
    assert all(p.grad is None for p in env.model.blocks.parameters())


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_copies_go_on_alike(tmp_path, tie_grad):
    features = {"owner": "gradient+taylor", "sum": EVERY}[tie_grad]
    env = begun(features=features, tie_grad=tie_grad)
    env.step(1)
    env.save_checkpoint(tmp_path / "here.safetensors")
    snapshot, twin, loaded = env.snapshot(), env.fork(), begun(**env.config.__dict__)
    loaded.load_checkpoint(tmp_path / "here.safetensors")

    def future(env):
        return [env.step(action)[0]["layer_stats"].tolist() for action in (2, 0, 0)]

    expected = future(env)
    assert future(twin) == future(loaded) == expected
    env.restore(snapshot)
    assert future(env) == expected


def test_copies_with_other_features_are_refused_by_name_and_older_ones_have_the_default():
    env = begun()
    env.step(1)
    snapshot = env.snapshot()
    with pytest.raises(ValueError, match="different are features"):
        begun(features="moved").restore(snapshot)
    del snapshot.values["config"]["features"]
    env.restore(snapshot)
    snapshot.values["episode"]["stats"] = [0.0] * 4
    with pytest.raises(ValueError, match="stats can't be"):
        env.restore(snapshot)


def test_one_layer_has_features_too():
    for choices in ("tie", "tie+freeze"):
        env = begun(n_layer=1, features=EVERY, tie_grad="sum", choices=choices)
        figures = stats(env.step(0)[0], env)
        assert figures["agreement"].tolist() == [1]
        assert figures["taylor"].tolist() == [0]


def test_a_flat_observation_holds_them():
    env = gymnasium.make("TieEnvFlat-v0", **SMALL | {"features": EVERY, "tie_grad": "sum"})
    plain = gymnasium.make("TieEnvFlat-v0", **SMALL)
    assert env.observation_space.shape[0] == plain.observation_space.shape[0] + 2 * 4


def test_a_divergence_leaves_figures_that_are_in_the_box():
    env = begun(features=EVERY, tie_grad="sum", learning_rate=1e12, initial_ties="cycle:2")
    for _ in range(6):
        observation, _, terminated, _, info = env.step(1)
        assert env.observation_space.contains(observation)
        if terminated:
            break
    assert info["diverged"]
