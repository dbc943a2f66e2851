"""Decision S4: its layers in both forms, what it sees, whom it imitates, and that it improves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents import decision_s4
from agents.decision_s4_learning import DecisionS4
from agents.protocols import Greedy
from agents.s4_layers import S4D, S4Block
from agents.trajectory_buffer import Eyes, TrajectoryBuffer
from tests.agents.known_answer import KnownAnswer, finds_the_best_ties, greedy_ties
from tiegym.bench.recorded import real_config
from tiegym.bench.table import load_table
from tiegym.bench.values import objectives
from tiegym.offline.convert import play_table
from tiegym.offline.trajectories import Trajectory
from tiegym.rewards import reward

BEST = [0, 1, 0, 1, 4]
TINY = {"width": 16, "states": 4, "layers": 2, "batch_size": 8}


@pytest.mark.parametrize("kind", [S4D, S4Block])
@pytest.mark.parametrize("length", [1, 2, 37])
def test_convolution_and_recurrence_give_the_same(kind, length):
    torch.manual_seed(0)
    layer = kind(5, 7).double()
    inputs = torch.randn(3, length, 5, dtype=torch.float64)
    state, outputs = torch.zeros(3, 5, 7, dtype=torch.complex128), []
    for t in range(length):
        output, state = layer.step(inputs[:, t], state)
        outputs.append(output)
    torch.testing.assert_close(layer(inputs), torch.stack(outputs, 1), rtol=0, atol=1e-10)


def test_a_layer_integrates_its_differential_equation_exactly():
    """Held inputs: x(t + dt) = x(t) + integral of A x + u, by many small steps of Euler's."""
    layer = S4D(1, 2).double()
    dt = layer.log_step.exp().item()
    a = torch.complex(-layer.log_decay.exp(), layer.frequency)[0].detach().numpy()
    x, n = np.zeros(2, dtype=complex), 20_000
    inputs = [0.7, -1.2, 0.4]
    for u in inputs:
        for _ in range(n):
            x = x + dt / n * (a * x + u)
    c = torch.view_as_complex(layer.output)[0].detach().numpy()
    expected = 2 * (c * x).sum().real + layer.skip[0].item() * inputs[-1]
    found = layer(torch.tensor(inputs, dtype=torch.float64)[None, :, None])[0, -1, 0]
    assert found.item() == pytest.approx(expected, rel=1e-3)


def make(env, **changes):
    options = decision_s4.Options(env=env.config, **{"seed": 0, **TINY} | changes)
    return decision_s4.make_model(options, env)


def test_whole_episodes_and_single_decisions_have_the_same_scores():
    env = KnownAnswer()
    model = make(env)
    policy = model.policy
    policy.target_level.fill_(-1.0)
    rng, actions, seen, scores, state = np.random.default_rng(0), [], [], [], None
    observation, _ = env.reset(seed=0)
    for _ in range(env.length):
        seen.append(policy.eyes.see(observation))
        found, hidden = policy.decide(seen[-1], state, None)
        scores.append(found)
        actions.append(int(rng.choice(np.flatnonzero(env.action_masks()))))
        state = hidden, np.array(actions[-1:])
        observation, *_ = env.step(np.int64(actions[-1]))
    choices, unit, figures, level = (
        torch.from_numpy(np.stack(arrays, axis=1)) for arrays in zip(*seen, strict=True)
    )
    before = torch.tensor([[policy.actor.n_actions, *actions[:-1]]])
    with torch.no_grad():
        whole = policy.actor(choices, unit, figures, before, policy.target_level - level)
    whole = policy.allowed(whole, unit)
    torch.testing.assert_close(whole, torch.stack(scores, 1), rtol=1e-4, atol=1e-4)


def test_it_takes_no_action_that_the_mask_leaves_out_and_forgets_the_last_episode():
    env = KnownAnswer()
    model = make(env)
    with torch.no_grad():  # it would like the last action best, and above all
        model.policy.actor.head[-1].bias.copy_(torch.arange(5) * 100.0)
    observation, _ = env.reset(seed=0)
    state, start, first = None, True, None
    for _ in range(2 * env.length):
        if start and first is not None:
            state_before = state
        action, state = model.predict(observation, state, np.array([start]), deterministic=True)
        assert env.action_masks()[action]
        if start:
            assert first is None or np.allclose(state[0], first)
            first = state[0]
        observation, _, start, _, _ = env.step(action)
        if start:
            observation, _ = env.reset()
    assert not np.allclose(state_before[0], first)


@pytest.mark.parametrize("behaviour", ["random", "random-fixed", "mixture"])
def test_behaviour_policies_draw_allowed_actions_and_one_of_them_keeps_its_draws(
    behaviour, monkeypatch
):
    monkeypatch.setattr(DecisionS4, "train", lambda self, *args, **kwargs: None)
    env = KnownAnswer()
    model = make(env, behaviour=behaviour)
    model.learn(240)  # the first half of it under the behaviour
    kept = []
    for k in range(120 // env.length):
        actions, units = (model.buffer._whole[place][k, : env.length] for place in (4, 1))
        assert (actions <= units).all()
        sweeps = actions.reshape(-1, 4)
        kept.append((sweeps == sweeps[0]).all())
    if behaviour == "mixture":
        assert True in kept
        assert False in kept
    else:
        assert set(kept) == {behaviour == "random-fixed"}


def episodes(env, count, seed=0):
    """Whole episodes under random choices."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        observation, _ = env.reset(seed=0)
        seen, actions, ended = [observation], [], False
        while not ended:
            actions.append(int(rng.choice(np.flatnonzero(env.action_masks()))))
            observation, _, ended, _, _ = env.step(np.int64(actions[-1]))
            seen.append(observation)
        arrays = {name: np.array([one[name] for one in seen]) for name in seen[0]}
        found.append(Trajectory(arrays, np.array(actions), np.zeros(len(actions))))
    return found


def test_offline_it_does_what_leads_to_the_return_that_it_is_asked_for():
    env = KnownAnswer()
    model = make(env)
    model.learn_offline(episodes(env, 300), updates=300)
    best = model.buffer.best
    assert best == (-3.0, 3.0)  # chance has found the best ties, once or more
    assert model.policy.target_level == 0.0
    policy, wrong = Greedy(model, env), {}
    for asked in (0.0, -4.0):
        model.policy.target_level.fill_(asked)
        greedy_ties(policy, env)
        wrong[asked] = env.wrong
    assert wrong[0.0] < 2 < wrong[-4.0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_online_it_learns_the_best_tie_vector(seed):
    env = KnownAnswer(BEST, floor=2.0, noise=0.1)
    model = make(env, seed=seed)
    policy = Greedy(model, env)
    assert greedy_ties(policy, env) != BEST
    assert finds_the_best_ties(model, policy, env, steps=4000)


def test_the_target_is_the_largest_gain_times_the_factor():
    env = KnownAnswer(floor=2.0)
    for factor in (1.0, 0.5):
        model = make(env, target_factor=factor)
        model.learn_offline(episodes(env, 20), updates=1)
        begin, rise = model.buffer.best
        assert begin == -5.0
        assert 0 < rise <= 3
        assert model.policy.target_level == begin + factor * rise


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["delta_log_ppl", "delta_ppl_params"])
def test_what_a_run_gains_is_the_sum_of_its_rewards(tree_file, kind):
    env = real_config(str(tree_file), kind, 0.3 if kind == "delta_ppl_params" else 0.0)
    eyes = Eyes.of(env, layer_stats=True)
    table = load_table(str(tree_file))
    levels = -objectives(table, eyes.price)
    ((one,),) = (play_table(str(tree_file), 1, "random", 0).episodes,)
    seen = eyes.see(one.observations)
    assert seen.figures.shape == (5, eyes.n_figures)
    loss, share = one.observations["loss"][:, 1], (one.observations["ties"] == range(3)).mean(1)
    total = sum(
        reward(kind, loss[t + 1], loss[t], share[t + 1], eyes.price, share[t]) for t in range(4)
    )
    assert seen.level[-1] - seen.level[0] == pytest.approx(total, abs=1e-5)
    row = table.row_of(one.seed)
    assert np.isclose(levels[row], seen.level[-1], atol=1e-6).any()


def test_the_buffer_keeps_the_last_episodes_and_only_whole_ones():
    env = KnownAnswer()
    eyes = Eyes.of(env.config, layer_stats=False)
    buffer = TrajectoryBuffer(eyes, env.length, capacity=2, members=1)
    made = episodes(env, 3)
    for one in made[:1]:
        buffer.put(eyes.see(one.observations), one.actions)
    for one in made[1:]:
        seen = eyes.see(one.observations)
        for t, action in enumerate(one.actions):
            before, after = (type(seen)(*(a[k : k + 1] for a in seen)) for k in (t, t + 1))
            buffer.add(before, np.array([action]), after, np.array([t == env.length - 1]))
    assert buffer.count == 3
    drawn = buffer.sample(50, np.random.default_rng(0))
    kept = {tuple(row) for row in drawn.actions[:, :-1].tolist()}
    assert kept == {tuple(one.actions.tolist()) for one in made[1:]}
    assert drawn.length.unique().tolist() == [env.length]
    place = drawn.actions[:, :-1].tolist().index(made[2].actions.tolist())
    np.testing.assert_array_equal(drawn.choices[place], made[2].observations["ties"])
