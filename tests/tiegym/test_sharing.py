"""The environment whose layers share by parts, or can be frozen: every combination of both."""

from __future__ import annotations

import itertools
import re
import warnings

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.wrappers import FlattenObservation
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import tiegym
from tests.tiegym.small import SMALL
from tiegym import parts
from tiegym.actions import Actions
from tiegym.features import FEATURES

ACTIONS = ("layerwise", "pair", "joint")
PARTS = ("block", "attention+mlp")
CHOICES = ("tie", "tie+freeze")
GRADS = ("owner", "sum")
EVERY = list(itertools.product(ACTIONS, PARTS, CHOICES, GRADS))
SHARINGS = list(itertools.product(ACTIONS, PARTS, CHOICES))
BOTH = {"tie_parts": "attention+mlp", "choices": "tie+freeze"}


def arguments(action, tie_parts, choices, tie_grad="owner"):
    named = {"action": action, "tie_parts": tie_parts, "choices": choices, "tie_grad": tie_grad}
    return SMALL | named


def begun(steps=3, seed=0, **changes):
    """An environment after some random steps."""
    env = tiegym.TieEnv(**SMALL | BOTH | {"dropout": 0.1} | changes)
    env.action_space.seed(seed)
    env.reset(seed=seed)
    for _ in range(steps):
        env.step(env.action_space.sample())
    return env


def future(env, steps=3):
    env.action_space.seed(9)
    results = [env.step(env.action_space.sample()) for _ in range(steps)]
    return [
        (r[1], r[4]["val_loss"], r[4]["frozen"].tolist(), r[4]["ties"].tolist()) for r in results
    ]


@pytest.mark.parametrize("kinds", [*EVERY, *(("flat", *kinds) for kinds in SHARINGS)], ids=str)
def test_the_checkers_pass_without_a_warning(kinds):
    name = "TieEnv-v0"
    if kinds[0] == "flat":
        name, kinds = "TieEnvFlat-v0", kinds[1:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name, **arguments(*kinds)).unwrapped
        gymnasium_check_env(env)
        sb3_check_env(env)


@pytest.mark.parametrize("kinds", SHARINGS, ids=str)
def test_wrappers_see_the_spaces_that_they_know(kinds):
    env = gymnasium.make("TieEnv-v0", **arguments(*kinds))
    flat = FlattenObservation(env)
    assert flat.observation_space.dtype == np.float32
    assert gymnasium.make("TieEnvFlat-v0", **arguments(*kinds)).observation_space == (
        flat.observation_space
    )
    masked = tiegym.MaskInObservation(env)
    observation, _ = masked.reset(seed=0)
    assert masked.observation_space.contains(observation)
    written = env.spec.to_json()
    again = gymnasium.make(gymnasium.envs.registration.EnvSpec.from_json(written))
    assert again.unwrapped.config == env.unwrapped.config


@pytest.mark.parametrize("kinds", SHARINGS, ids=str)
def test_keys_and_shapes_follow_the_configuration(kinds):
    env = tiegym.TieEnv(**arguments(*kinds))
    _, tie_parts, choices = kinds
    n_units = 8 if tie_parts == "attention+mlp" else 4
    for observation, info in (env.reset(seed=0), env.step(env.action_space.sample())[::4]):
        assert ("part" in observation) == (tie_parts == "attention+mlp")
        assert ("frozen" in observation) == ("frozen" in info) == (choices == "tie+freeze")
        assert observation["ties"].shape == info["ties"].shape == (n_units,)
        assert observation["layer_stats"].shape == (n_units * len(FEATURES),)
        if "frozen" in info:
            assert info["frozen"].dtype == np.bool_
            assert info["frozen"].tolist() == observation["frozen"].tolist()


def test_the_cursor_goes_from_attention_to_mlp_to_the_next_layer():
    env = tiegym.TieEnv(**SMALL | {"tie_parts": "attention+mlp"})
    observation, info = env.reset(seed=0)
    seen = [(observation["layer"], observation["part"])]
    for action in (1, 0, 2, 1, 3, 3):
        assert info["action_mask"].tolist() == [a <= observation["layer"] for a in range(4)]
        observation, *_, info = env.step(action)
        seen.append((observation["layer"], observation["part"]))
    assert seen == [(1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (1, 0)]
    # Of layer 1 the attention alone became independent, of layer 2 the attention, and so on.
    assert info["ties"].tolist() == [0, 1, 2, 3, 0, 0, 1, 3]
    assert info["n_independent"] == 4 + 2


def test_the_last_action_freezes_and_independence_thaws():
    env = tiegym.TieEnv(**SMALL | {"choices": "tie+freeze", "iters_per_step": 1})
    observation, info = env.reset(seed=0)
    assert observation["layer"] == 0
    assert info["action_mask"].tolist() == [1, 0, 0, 0, 1]
    assert not info["frozen"].any()
    for action in (0, 4, 2, 0):  # layers 0 to 3
        _, _, _, _, info = env.step(action)
    assert info["frozen"].tolist() == [False, True, False, False]
    assert info["ties"].tolist() == [0, 1, 2, 0]
    assert info["n_independent"] == 3
    assert env.frozen.tolist() == info["frozen"].tolist()
    held = [p.clone() for p in env.model.independent(1).parameters()]
    _, _, _, _, info = env.step(4)  # layer 0
    block, shape = env.model.shape.block_params, env.model.shape
    assert info["trainable_params"] == shape.params(1)
    four_bytes_for_a_frozen_number = 4 * 2 * block
    assert info["model_state_bytes"] == (
        env._trainer.expected_state_bytes(1) + four_bytes_for_a_frozen_number
    )
    assert all(
        torch.equal(p, h) for p, h in zip(env.model.independent(1).parameters(), held, strict=True)
    )
    _, _, _, _, info = env.step(1)  # layer 1 trains again
    assert info["frozen"].tolist() == [True, False, False, False]
    assert info["trainable_params"] == shape.params(2)


def test_a_frozen_layer_gets_tied_like_any_other():
    env = tiegym.TieEnv(**SMALL | {"choices": "tie+freeze", "action": "joint"})
    env.reset(seed=0)
    _, _, _, _, info = env.step(np.array([1, 2, 1, 1]))  # 0 and 1 frozen, 2 and 3 tied to 1
    assert info["frozen"].tolist() == [True, True, False, False]
    assert info["trainable_params"] == env.model.shape.params(0)
    _, _, _, _, info = env.step(np.array([0, 0, 0, 4]))
    assert info["frozen"].tolist() == [False, False, False, True]
    assert info["ties"].tolist() == [0, 0, 0, 3]


@pytest.mark.parametrize("kinds", EVERY, ids=str)
def test_the_model_always_is_what_ties_and_frozen_say(kinds):
    env = tiegym.TieEnv(**arguments(*kinds) | {"iters_per_step": 1})
    env.action_space.seed(5)
    env.reset(seed=0)
    for _ in range(12):
        observation, _, _, _, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        assert env.model.ties.tolist() == info["ties"].tolist()
        assert env.model.roots == parts.roots(info["ties"], 4).tolist()
        frozen = info.get("frozen", np.zeros(len(info["ties"]), dtype=np.bool_))
        assert env.model.frozen == frozen.tolist()
        trained = [p for p in env.model.parameters() if p.requires_grad]
        assert sum(p.numel() for p in trained) == info["trainable_params"]
        assert info["n_independent"] == len(set(env.model.roots))
        assert set(env.optimizer.state) == set(trained)
        every = sum(p.numel() for p in env.model.parameters())
        numbers = every + 3 * info["trainable_params"]
        assert info["model_state_bytes"] == 4 * (numbers + len(trained))


@pytest.mark.parametrize("initial_ties", ["cycle:2", "0,0,2,2,0,0,0,3"])
def test_model_state_before_the_first_step_is_what_it_is_after_it(initial_ties):
    env = tiegym.TieEnv(**SMALL | BOTH | {"action": "pair", "initial_ties": initial_ties})
    _, before = env.reset(seed=0)
    *_, after = env.step(0)
    assert before["model_state_bytes"] == after["model_state_bytes"]


@pytest.mark.parametrize("tie_grad", GRADS)
def test_parts_with_the_same_ties_train_as_whole_blocks_do(tie_grad):
    joint = {"action": "joint", "tie_grad": tie_grad, "dropout": 0.1}
    whole = tiegym.TieEnv(**SMALL | joint)
    apart = tiegym.TieEnv(**SMALL | joint | {"tie_parts": "attention+mlp"})
    for env in (whole, apart):
        env.reset(seed=0)
    for action in ([1, 1, 3], [0, 2, 2], [0, 0, 0]):
        _, reward, _, _, info = whole.step(np.array(action))
        _, other, _, _, its = apart.step(np.array(action * 2))
        assert other == reward
        for key in ("val_loss", "trainable_params", "model_state_bytes", "perplexity"):
            assert its[key] == info[key]
        assert its["n_independent"] == 2 * info["n_independent"]


def test_the_independent_share_is_counted_in_parts():
    rewards = {"reward": "ppl_params", "param_cost": 8.0, "action": "joint"}
    env = tiegym.TieEnv(**SMALL | rewards | {"tie_parts": "attention+mlp"})
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.array([1, 0, 0, 1, 2, 0]))
    assert info["n_independent"] == 5
    assert reward == pytest.approx(-info["val_loss"] - 8.0 * 5 / 8)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("tie_parts", PARTS)
def test_copies_go_on_alike(tmp_path, action, tie_parts):
    changes = {"action": action, "tie_parts": tie_parts}
    env = begun(seed=1, **changes)
    env.save_checkpoint(tmp_path / "here.safetensors")
    snapshot, twin, loaded = env.snapshot(), env.fork(), begun(steps=1, seed=2, **changes)
    loaded.load_checkpoint(tmp_path / "here.safetensors")
    assert loaded.model.frozen == env.model.frozen == twin.model.frozen
    expected = future(env)
    assert future(twin) == expected
    assert future(loaded) == expected
    env.restore(snapshot)
    assert future(env) == expected
    fresh = tiegym.TieEnv(**SMALL | BOTH | {"dropout": 0.1} | changes)
    fresh.restore(snapshot)
    assert future(fresh) == expected


def test_a_snapshot_of_what_is_frozen_holds_no_moments_of_it():
    env = begun(steps=0, action="joint", tie_parts="block")
    env.step(np.array([1, 2, 2, 4]))  # all but layer 2 frozen
    names = {name for name in env.snapshot().tensors if name.startswith("optimizer.")}
    assert {name.split(".")[3] for name in names if ".blocks." in name} == {"2"}


def test_every_episode_begins_with_nothing_frozen_and_can_be_copied_at_once():
    env = begun(max_iters=4, steps=2, seed=3, initial_ties="independent")
    assert env.frozen.any()
    env.reset(seed=1)
    assert not env.frozen.any()
    assert all(p.requires_grad for p in env.model.parameters())
    fresh = tiegym.TieEnv(**env.config.__dict__)
    fresh.reset(seed=1)
    env.restore(env.snapshot())
    assert future(env, 2) == future(fresh, 2)


def test_a_second_episode_can_be_copied_before_its_first_step():
    env = tiegym.TieEnv(**SMALL | {"initial_ties": "independent", "max_iters": 4})
    env.reset(seed=0)
    env.step(0)
    env.step(0)
    env.reset(seed=1)
    assert env.model is not None
    env.restore(env.snapshot())
    assert env.step(1)[4]["iteration"] == 2


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("frozen", [True] * 7, "frozen can't be"),
        ("frozen", [1] * 8, "frozen can't be"),
        ("frozen", [False, True, *[False] * 6], "only layers with weights of their own"),
        ("part", 2, "part can't be"),
        ("part", True, "part can't be"),
        ("ties", [0, 0, 0, 0], "give 8, those of the attention"),
        ("ties", [0, 0, 0, 0, 1, 0, 0, 0], "impossible"),
        ("stats", [0.0] * 12, "stats can't be"),
    ],
)
def test_an_episode_that_can_not_be_is_refused_and_nothing_changes(name, value, message):
    env = begun(steps=1, action="pair")
    env.step(0)
    snapshot = env.snapshot()
    snapshot.values["episode"][name] = value
    if name != "ties":
        snapshot.values["episode"]["ties"] = [0] * 8
    before = env.ties.tolist()
    with pytest.raises(ValueError, match=message):
        env.restore(snapshot)
    assert env.ties.tolist() == before


def test_the_cursor_of_a_copy_must_be_on_what_has_a_choice():
    env = tiegym.TieEnv(**SMALL)
    env.reset(seed=0)
    snapshot = env.snapshot()
    snapshot.values["episode"]["layer"] = 0
    with pytest.raises(ValueError, match="the cursor at layer 0, part 0, can't be"):
        env.restore(snapshot)


def test_a_snapshot_of_0_1_knows_neither_parts_nor_what_is_frozen():
    env = tiegym.TieEnv(**SMALL)
    env.reset(seed=0)
    env.step(1)
    snapshot = env.snapshot()
    for name in ("part", "frozen"):
        del snapshot.values["episode"][name]
    for name in ("tie_parts", "choices"):
        del snapshot.values["config"][name]
    expected = env.step(2)[1]
    env.restore(snapshot)
    assert env.step(2)[1] == expected


def test_copies_of_another_sharing_are_refused_by_name():
    snapshot = begun().snapshot()
    with pytest.raises(ValueError, match=r"choices.*tie_parts"):
        tiegym.TieEnv(**SMALL | {"dropout": 0.1}).restore(snapshot)


@pytest.mark.parametrize("tie_parts", PARTS)
def test_an_export_loads_with_equal_logits_and_each_weight_once(tmp_path, tie_parts):
    env = begun(tie_parts=tie_parts, seed=1)
    env.export(tmp_path / "model.safetensors")
    model = tiegym.load_model(tmp_path / "model.safetensors")
    assert model.ties.tolist() == env.ties.tolist()
    assert model.n_parts == len(PARTS[: PARTS.index(tie_parts) + 1])
    tokens = torch.arange(12).reshape(1, 12)
    env.model.eval()
    assert torch.equal(model(tokens), env.model(tokens))
    own = [sum(p.numel() for p in m.parameters()) for m in (model, env.model)]
    assert own[0] == own[1]
    assert tiegym.generate(model, tokens, 3, temperature=0).tolist() == (
        tiegym.generate(env.model, tokens, 3, temperature=0).tolist()
    )


def test_an_export_of_parts_whose_ties_do_not_fit_is_refused(tmp_path):
    env = begun(steps=0, initial_ties="0,0,0,0,0,1,0,0")
    for ties in ([0, 0, 0, 0, 0, 0, 2, 0], [0, 0, 0, 0]):  # other ties than its weights are for
        env.model._ties = np.array(ties)
        env.export(tmp_path / "wrong.safetensors")
        with pytest.raises(ValueError, match="don't fit its sizes, ties and types"):
            tiegym.load_model(tmp_path / "wrong.safetensors")


def test_gpt2_gets_a_copy_of_the_weights_of_each_layers_parts():
    from tiegym.transformer.gpt2_export import LAYER_NAMES, gpt2_tensors

    env = begun(seed=1)
    tensors = gpt2_tensors(env.model)
    assert len([name for name in tensors if ".h." in name]) == 4 * len(LAYER_NAMES)
    for unit, root in enumerate(env.model.roots):
        for name, weight in env.model.independent(root).named_parameters():
            copied = tensors[f"transformer.h.{unit % 4}.{LAYER_NAMES[name]}"]
            assert torch.equal(copied.t(), weight)


@pytest.mark.parametrize("tie_grad", GRADS)
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_checkpointed_activations_change_nothing(tie_grad, dropout):
    changes = {"tie_grad": tie_grad, "dropout": dropout}
    plain = future(begun(**changes))
    assert future(begun(checkpoint_activations=True, **changes)) == plain


def test_stats_tell_parts_and_what_is_frozen():
    env = begun(steps=0, action="joint", initial_ties="independent", dropout=0.0)
    # Attention of layer 1 frozen; MLP of layer 2 tied to that of layer 1.
    _, _, _, _, info = env.step(np.array([0, 2, 2, 3, 0, 1, 1, 3]))
    observation, *_ = env.step(np.array([0, 2, 2, 3, 0, 1, 1, 3]))
    moved, similarity, gradient = observation["layer_stats"].reshape(8, 3).T
    assert moved[1] == 0
    assert gradient[1] == -1
    assert (np.delete(moved, 1) > 0).all()
    assert moved[5] == moved[6]
    assert similarity[6] == pytest.approx(1)
    assert similarity[0] == similarity[4] == 1
    assert abs(similarity[7]) < 0.9
    assert info["frozen"].sum() == 1


def test_the_text_and_the_picture_show_both_parts_and_what_is_frozen():
    env = begun(steps=0, action="joint", render_mode="ansi")
    env.step(np.array([0, 2, 0, 0, 0, 0, 2, 2]))
    text = re.sub(r"\x1b\[[0-9;]*m", "", env.render())
    assert text.endswith("4/8 independent  1 frozen  attention ABAA  MLP AABB")
    frames = []
    for action in ([0, 2, 0, 0, 0, 0, 2, 2], [0, 1, 0, 0, 0, 0, 2, 2], [0, 2, 0, 0, 0, 0, 0, 0]):
        env = begun(steps=0, action="joint")
        env.render_mode = "rgb_array"
        env.step(np.array(action))
        frames.append(env.render()[:380])
    assert frames[0].std() > 5
    assert (frames[0] != frames[1]).any()  # frozen or not
    assert (frames[0] != frames[2]).any()  # the MLPs' ties


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tie_parts": "qkv"}, "tie_parts='qkv' is unknown: choose one of block, attention"),
        ({"choices": "freeze"}, "choices='freeze' is unknown: choose one of tie, tie\\+freeze"),
        ({"tie_parts": "attention+mlp", "initial_ties": (0, 0, 0, 0)}, "give 8, those of the att"),
        ({"tie_parts": "attention+mlp", "initial_ties": "0,0"}, "give 8"),
        ({"initial_ties": (0,) * 8}, "8 entries, but there are 4 layers"),
        ({"n_layer": 1, "action": "joint", "tie_parts": "attention+mlp"}, "at least 2 with action"),
    ],
)
def test_wrong_input_is_refused_at_construction(wrong, message):
    with pytest.raises(ValueError, match=message):
        tiegym.TieConfig(**SMALL | wrong)


def test_initial_ties_of_both_parts_are_a_pattern_or_a_vector_of_both():
    for given, expected in (
        ("cycle:2", [0, 1, 0, 1] * 2),
        ("0,0,2,2,0,1,2,3", [0, 0, 2, 2, 0, 1, 2, 3]),
        (np.array([0, 0, 2, 2, 0, 1, 2, 3]), [0, 0, 2, 2, 0, 1, 2, 3]),
    ):
        env = tiegym.TieEnv(**SMALL | {"tie_parts": "attention+mlp", "initial_ties": given})
        _, info = env.reset(seed=0)
        assert info["ties"].tolist() == expected
        assert env.model.ties.tolist() == expected


def test_one_layer_has_the_choice_to_freeze():
    for action in ACTIONS:
        env = tiegym.TieEnv(**arguments(action, "block", "tie+freeze") | {"n_layer": 1})
        env.reset(seed=0)
        actions = Actions.of(env.config)
        last = actions.choose_all(np.array([1])) if action == "joint" else actions.choose(0, 1)
        assert env.step(last)[4]["frozen"].tolist() == [True]
