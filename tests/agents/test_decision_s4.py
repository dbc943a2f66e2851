"""Decision S4: its layers in both forms, what it sees, whom it imitates, and that it improves."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import decision_s4
from agents.decision_s4_learning import DecisionS4
from agents.protocols import Greedy
from agents.recorded_runs import read_runs
from agents.s4_layers import S4D, S4Block
from agents.saved_agents import AGENT_FILE, read_agent
from agents.trajectory_buffer import Eyes, TrajectoryBuffer
from baselines import random_tying
from tests.agents.known_answer import KnownAnswer, finds_the_best_ties, greedy_ties
from tests.tiegym.small import SMALL
from tiegym.bench.recorded import real_config
from tiegym.bench.table import load_table
from tiegym.bench.values import objectives
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.offline import convert
from tiegym.offline.convert import play_table
from tiegym.offline.trajectories import Trajectory
from tiegym.rewards import reward
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run

BEST = [0, 1, 0, 1, 4]
ENV = TieConfig(**SMALL)
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


def recorded(folder, seeds=(1, 2), **changes):
    """Runs of random tying."""
    env = dataclasses.replace(ENV, **changes)
    return tuple(
        str(random_tying.train(random_tying.Options(runs_dir=folder, quiet=True, env=env, seed=s)))
        for s in seeds
    )


def offline(folder, runs, **changes):
    values = {"runs": runs, "pretrain_runs": 0, "layer_stats": False, "offline_updates": 20}
    values |= {"runs_dir": folder, "quiet": True, "env": ENV, "seed": 3}
    return decision_s4.Options(**TINY | values | changes)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two runs of random tying."""
    return recorded(tmp_path_factory.mktemp("source"))


def test_it_learns_from_run_folders_and_counts_what_they_cost(tmp_path, source):
    runs = source
    run = read_run(decision_s4.train(offline(tmp_path / "runs", runs)))
    assert run.config["protocol"] == "pretrained"
    assert run.summary["extra_iterations"] == 2 * ENV.max_iters
    assert run.summary["finished"]
    assert len(run.steps) == ENV.steps_per_episode
    saved = read_agent(run.folder / AGENT_FILE)
    assert saved.values["spent_iterations"] == 2 * ENV.max_iters
    best = max(-row["val_loss"] for path in runs for row in read_run(path).steps[-1:])
    assert saved.weights["target_level"].item() == pytest.approx(best, abs=1e-6)
    assert DecisionS4.load(run.folder / "agent.zip").policy.target_level.item() == pytest.approx(
        best, abs=1e-6
    )


def test_a_run_that_was_cut_off_goes_on_without_the_runs_that_it_learnt_from(
    tmp_path, source, monkeypatch
):
    copies = tuple(shutil.copytree(run, tmp_path / "source" / Path(run).name) for run in source)
    options = offline(tmp_path / "runs", tuple(map(str, copies)), seed=1)
    whole = read_run(decision_s4.train(dataclasses.replace(options, name="whole")))
    with monkeypatch.context() as patch:
        patch.setattr(TieEnv, "test_metrics", lambda env: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            decision_s4.train(dataclasses.replace(options, name="cut"))
    (tmp_path / "source").rename(tmp_path / "gone")
    decision_s4.main(["--resume", str(tmp_path / "runs" / "cut")])
    run = read_run(tmp_path / "runs" / "cut")
    for key in ("action", "val_loss"):
        assert [row[key] for row in run.steps] == [row[key] for row in whole.steps]
    for key in ("extra_iterations", "left_out_episodes"):
        assert run.summary[key] == whole.summary[key] > 0


def test_it_goes_on_online_on_a_table_from_runs_of_the_same_environment(tree_file, tmp_path):
    from tiegym.offline.minari_data import write_data_set

    write_data_set(play_table(str(tree_file), 20, "random", 0), tmp_path / "made-v0", "random")
    options = decision_s4.Options.for_table(
        str(tree_file),
        runs=(str(tmp_path / "made-v0"),),
        total_steps=200,
        offline_updates=5,
        seed=2,
        quiet=True,
        runs_dir=tmp_path,
        **TINY,
    )
    run = read_run(decision_s4.train(options))
    assert run.config["protocol"] == "tabulated"
    assert run.summary["table_steps"] == 200
    assert run.summary["extra_iterations"] == 0  # recorded runs trained nothing
    with pytest.raises(InputError, match="itself learns from recorded runs"):
        decision_s4.make_model(options, KnownAnswer())


def test_it_does_not_learn_from_the_run_that_it_is_judged_on(tmp_path, source):
    """Whose seed is 1: the one of seed 2 is all that is left, with all that it is asked for."""
    (own, other), learnt = source, {}
    for name, runs in (("both", source), ("other", (other,))):
        folder = decision_s4.train(offline(tmp_path / name, runs, seed=1))
        learnt[name] = read_run(folder), read_agent(folder / AGENT_FILE).weights
    (run, weights), (alone, expected) = learnt["both"], learnt["other"]
    assert [row["action"] for row in run.steps] == [row["action"] for row in alone.steps]
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)
    best = -read_run(other).steps[-1]["val_loss"]
    assert weights["target_level"].item() == pytest.approx(best, abs=1e-6)
    assert run.summary["extra_iterations"] == ENV.max_iters
    assert run.summary["left_out_episodes"] == 1
    assert alone.summary["left_out_episodes"] == 0
    with pytest.raises(InputError, match=r"all 1 episodes are of seed=1, .* another --seed"):
        decision_s4.train(offline(tmp_path / "none", (own,), seed=1))
    assert not (tmp_path / "none").exists()


def test_a_run_goes_with_all_of_its_episodes_whatever_seed_they_have(tmp_path, source):
    """Later episodes of a run are of its stream, and have no seed of their own on record."""
    long = random_tying.Options(
        runs_dir=tmp_path, quiet=True, env=ENV, seed=1, total_steps=3 * ENV.steps_per_episode
    )
    runs = (str(random_tying.train(long)), source[1])
    found, left_out = read_runs(runs, ENV, layer_stats=False, leave_out=1)
    assert [episode.seed for episode in found.episodes] == [2]
    assert left_out == 3
    assert found.iterations == ENV.max_iters
    found, left_out = read_runs(runs, ENV, layer_stats=False, leave_out=3)
    assert [episode.seed for episode in found.episodes] == [1, None, None, 2]
    assert (left_out, found.iterations) == (0, 4 * ENV.max_iters)

    convert.from_runs([Path(run) for run in runs], None, tmp_path / "made-v0", print)
    data_set = (str(tmp_path / "made-v0"),)
    found, left_out = read_runs(data_set, ENV, layer_stats=False, leave_out=1)
    assert [episode.seed for episode in found.episodes] == [2]
    assert (left_out, found.iterations) == (3, ENV.max_iters)
    found, left_out = read_runs(data_set, ENV, layer_stats=False, leave_out=2)
    assert [episode.seed for episode in found.episodes] == [1, None, None]
    assert (left_out, found.iterations) == (1, 3 * ENV.max_iters)


def test_a_table_does_not_come_back_through_a_data_set(tree_file, tmp_path, capsys):
    convert.from_table(str(tree_file), 20, "random", 0, tmp_path / "tree-v0")
    env = real_config(str(tree_file))
    data_set = (str(tmp_path / "tree-v0"),)
    found, left_out = read_runs(data_set, env, layer_stats=True, leave_out=0)
    assert {episode.seed for episode in found.episodes} == {1}
    assert 0 < left_out < 20 == left_out + len(found.episodes)
    options = decision_s4.Options.for_table(
        str(tree_file), runs=data_set, total_steps=200, offline_updates=2, seed=0, **TINY
    )
    run = read_run(decision_s4.train(dataclasses.replace(options, runs_dir=tmp_path)))
    assert run.summary["left_out_episodes"] == left_out
    assert f"{left_out} episodes of seed 0 are left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        ({}, {"layer_stats": True}, "no layer_stats: .* --no-layer-stats"),
        ({"n_layer": 3}, {}, "trajectories are of n_layer=3, and not of 4"),
        ({"corpus": "synthetic:30000"}, {}, "of a text with sha256"),
        ({"learning_rate": 0.5}, {}, "trajectories are of learning_rate=0.5"),
    ],
)
def test_runs_that_do_not_fit_are_refused_before_there_is_a_folder(
    tmp_path, source, theirs, ours, message
):
    runs = recorded(tmp_path / "source", seeds=(1,), **theirs) if theirs else source
    with pytest.raises(InputError, match=message):
        decision_s4.train(offline(tmp_path / "runs", runs, **ours))
    with pytest.raises(InputError, match="there is no such folder"):
        decision_s4.train(offline(tmp_path / "runs", (str(tmp_path / "none"),)))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": ("runs/x",)}, r"runs=.* and pretrain_runs=8 are two ways"),
        ({"pretrain_runs": 0}, "learns from whole runs, before the recorded one"),
        ({"env": dataclasses.replace(ENV, action="joint")}, 'choose "layerwise"'),
        ({"offline_share": 0.8}, "exploration_fraction=0.75 must be above offline_share=0.8"),
        ({"offline_share": -0.1}, "offline_share=-0.1 must be from 0"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"offline_updates": 0}, "offline_updates=0 must be at least 1"),
        ({"target_factor": 0.0}, "target_factor=0.0 must be above 0"),
        ({"ent_coef": float("nan")}, "ent_coef=nan must be 0 or more"),
    ],
)
def test_what_it_cannot_do_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        decision_s4.Options(**changes)


def test_runs_on_the_command_line_change_what_it_begins_with():
    options = decision_s4.Options.defaults(["--runs", "runs/x", "runs/y", "--seed", "1"])
    assert (options.runs, options.pretrain_runs) == (("runs/x", "runs/y"), 0)
    assert not options.layer_stats
    assert decision_s4.Options.defaults(["--runs-dir", "x"]) == decision_s4.Options()
