"""Agents that learn on a table, and then act where something trains."""

from __future__ import annotations

import dataclasses

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv

from agents import (
    decision_s4,
    dqn,
    evolution,
    maskable_ppo,
    pairwise,
    ppo,
    qlearning,
    recurrent_ppo,
)
from agents.reward_differences import RewardDifferences, VecRewardDifferences
from agents.saved_agents import read_agent
from agents.tabulated import learn_on_table, members
from tests.agents.known_answer import KnownAnswer
from tiegym.bench.environment import TieBench
from tiegym.bench.recorded import real_config
from tiegym.bench.table import load_table
from tiegym.bench.values import best_leaf, node_rewards, path_returns
from tiegym.bench.vector import TieBenchVector
from tiegym.env import TieEnv
from tiegym.runs.recorder import read_run

PROGRAMS = (dqn, ppo, maskable_ppo, recurrent_ppo, qlearning, pairwise, decision_s4)
every_program = pytest.mark.parametrize(
    "program", PROGRAMS, ids=lambda module: module.__name__.removeprefix("agents.")
)
HELD_OUT = 2  # the recorded seed of the split held-out


def options_for(program, table, **changes):
    values = {"total_steps": 200, "envs": 10, "quiet": True, "seed": HELD_OUT} | changes
    if "n_steps" in program.Options.__dataclass_fields__:
        values = {"n_steps": 4, "n_epochs": 2} | values
    return program.Options.for_table(str(table), **values)


def returns(policy, table, split="train", reward="delta_log_ppl", price=0.0):
    """What the policy's best actions earn in each recorded run of a split."""
    n = len(load_table(str(table)).seeds[split])
    many = TieBenchVector(n, str(table), split, reward, price)
    observations, _ = many.reset(options={"run": tuple(range(n))})
    state, start, total = None, np.ones(n, dtype=bool), np.zeros(n)
    while True:
        actions, state = policy.predict(observations, state, start)
        observations, rewards, ended, _, _ = many.step(actions)
        start, total = ended, total + rewards
        if ended.all():
            return total


@every_program
def test_what_it_learned_on_a_table_acts_alike_where_the_transformer_trains(
    program, tree_file, tmp_path
):
    options = options_for(program, tree_file, runs_dir=tmp_path)
    run = read_run(program.train(options))
    assert run.config["protocol"] == "tabulated"
    sha256 = load_table(str(tree_file)).sha256
    assert run.config["table_sha256"] == run.summary["table_sha256"] == sha256
    assert run.summary["table"] == str(tree_file)
    assert run.summary["table_steps"] == 200
    assert run.summary["table_seeds"] == run.config["table_seeds"] == [0, 1]
    assert "extra_iterations" not in run.summary
    assert run.summary["finished"]
    assert [row["iteration"] for row in run.steps] == [3, 6, 9, 12]

    # The same agent on the recorded run of the same seed, and in TieEnv, step by step.
    policy = learn_on_table(options, program.make_model)
    recorded, real = TieBench(str(tree_file), "held-out"), TieEnv(**dataclasses.asdict(options.env))
    observation, _ = recorded.reset(options={"run": 0})
    expected, _ = real.reset(seed=HELD_OUT)
    state, start = None, np.array([True])
    for row in run.steps:
        for key in expected:
            np.testing.assert_array_equal(observation[key], expected[key])
        action, after = policy.predict(observation, state, start)
        assert policy.predict(expected, state, start)[0] == action == row["action"]
        observation, _, _, _, info = recorded.step(action)
        expected, _, _, _, real_info = real.step(action)
        assert info["val_loss"] == real_info["val_loss"] == row["val_loss"]
        state, start = after, np.array([False])
    assert info["test_perplexity"] == run.summary["final"]["test_perplexity"]


@every_program
def test_checkpoints_come_after_what_was_learned_and_the_same_options_give_the_same(
    program, tree_file
):
    options = options_for(program, tree_file, total_steps=120)

    def learn(checkpoints):
        seen = []

        def look(decisions, policy):
            assert policy.model.num_timesteps == decisions
            weights = [p.detach().clone().ravel() for p in policy.model.policy.parameters()]
            seen.append((decisions, np.concatenate(weights)))
            returns(policy, tree_file)

        policy = learn_on_table(options, program.make_model, checkpoints, look)
        last = np.concatenate([p.detach().ravel() for p in policy.model.policy.parameters()])
        return seen, last

    seen, last = learn((40, 60, 120))
    again, same = learn(())
    assert again == []
    np.testing.assert_array_equal(last, same)  # looking changes nothing
    assert [decisions for decisions, _ in seen] == [40, 60, 120]
    np.testing.assert_array_equal(seen[-1][1], last)
    assert (seen[0][1] != last).any()
    if program is ppo:  # rollouts of 40 decisions: the second look is in the middle of one
        np.testing.assert_array_equal(seen[0][1], seen[1][1])


@pytest.mark.slow
@pytest.mark.parametrize("program", [dqn, maskable_ppo])
def test_it_finds_the_best_decisions_that_untrained_ones_do_not(program, tree_file):
    table, reward, price = load_table(str(tree_file)), "delta_ppl_params", 1.0
    rewards = node_rewards(table, reward, price)[table.rows_of("train")]
    best = path_returns(table.tree, rewards, best_leaf(table.tree, rewards)).mean()
    env = real_config(str(tree_file), reward, price)
    first, last = [], []
    for seed in range(3):
        options = program.Options.for_table(str(tree_file), env, total_steps=4000, seed=seed)

        def look(decisions, policy):
            {50: first, 4000: last}[decisions].append(
                returns(policy, tree_file, "train", reward, price).mean()
            )

        learn_on_table(options, program.make_model, (50, 4000), look)
    assert min(last) > best - 0.1  # an independent layer too many costs 0.33
    assert min(first) < best - 0.3


def test_the_run_of_the_agents_own_seed_is_not_learned_on(tree_file):
    options = options_for(ppo, tree_file, seed=0)
    env = members(options, leave_out=0)
    table = load_table(str(tree_file))
    env.reset()
    for _ in range(9):
        observations = env.step(np.zeros(10, dtype=np.int64))[0]
        seen = set(observations["loss"][:, 1].tolist())
        assert len(seen) == 1  # of the one seed that is left
    assert seen <= set(table.losses("val")[1].astype(np.float32).tolist())
    one = TieBenchVector(1, str(tree_file), "held-out")
    with pytest.raises(ValueError, match=rf"no other recorded run than that of seed={HELD_OUT}"):
        one.recorded.leave_out(HELD_OUT)


def test_pairwise_learns_on_three_layers_and_acts_at_five(tree_file, tmp_path):
    env = dataclasses.replace(real_config(str(tree_file)), n_layer=5, max_iters=24)
    options = options_for(pairwise, tree_file, env=env, runs_dir=tmp_path)
    run = read_run(pairwise.train(options))
    assert run.config["env"]["n_layer"] == 5
    assert len(run.steps) == 8
    assert run.summary["finished"]
    with pytest.raises(ValueError, match=r"env\.n_layer=5, but table .* made with 3: leave it"):
        options_for(ppo, tree_file, env=env)


def test_a_run_that_was_cut_off_learns_the_same_again(tree_file, tmp_path, monkeypatch):
    options = options_for(ppo, tree_file, runs_dir=tmp_path)
    whole = read_run(ppo.train(dataclasses.replace(options, name="whole")))
    step = TieEnv.step
    with monkeypatch.context() as patch:
        patch.setattr(TieEnv, "step", lambda env, a: 1 / 0 if env.ties.any() else step(env, a))
        patch.setattr(TieEnv, "test_metrics", lambda env: 1 / 0)  # at the latest
        with pytest.raises(ZeroDivisionError):
            ppo.train(dataclasses.replace(options, name="cut"))
    cut = tmp_path / "cut"
    run = read_run(ppo.train(dataclasses.replace(options, resume=cut)))
    for key in ("action", "val_loss"):
        assert [row[key] for row in run.steps] == [row[key] for row in whole.steps]
    learned, same = (read_agent(f / "agent.safetensors").weights for f in (cut, whole.folder))
    assert learned.keys() == same.keys()
    assert all(torch.equal(learned[key], same[key]) for key in learned)


def test_a_stop_is_heard_while_it_learns(tree_file, tmp_path, monkeypatch, capsys):
    import os
    import signal

    from agents import tabulated

    class Kills(tabulated.OnEachStep):
        def _on_step(self):
            os.kill(os.getpid(), signal.SIGTERM)
            return super()._on_step()

    monkeypatch.setattr(tabulated, "OnEachStep", Kills)
    arguments = ["--table", str(tree_file), "--runs-dir", str(tmp_path), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        ppo.main([*arguments, "--total-steps", "400"])
    assert ended.value.code == 128 + signal.SIGTERM
    assert "--resume" in capsys.readouterr().err
    monkeypatch.undo()
    (folder,) = tmp_path.iterdir()
    ppo.main(["--resume", str(folder)])
    assert read_run(folder).summary["table_steps"] == 400


def test_a_run_goes_on_with_the_table_that_it_began_with(tree_file, tmp_path):
    from tiegym.runs.json_files import read_json, write_json

    options = options_for(ppo, tree_file, runs_dir=tmp_path)
    folder = ppo.train(options)
    (folder / "summary.json").unlink()
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"table_sha256": "0" * 64})
    with pytest.raises(ValueError, match="can only go on with the table that it began with"):
        ppo.train(dataclasses.replace(options, resume=folder))


def test_a_table_decides_the_defaults_and_help_shows_them(tree_file, capsys):
    given = ["--table", str(tree_file), "--gamma", "0.5"]
    default = ppo.Options.defaults(given)
    assert default == ppo.Options.for_table(str(tree_file))
    assert default.env == real_config(str(tree_file))
    assert default.envs == 10
    assert default.table_steps == 100_000
    assert ppo.Options.defaults([]) == ppo.Options()
    with pytest.raises(SystemExit):
        ppo.main([*given, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "Runs that the agent learns from at a time" in text
    assert "(as TiePopulation-v0). (default: 10)" in text


def test_a_price_and_a_reward_are_free(tree_file):
    env = real_config(str(tree_file), "delta_ppl_params", 0.5)
    policy = learn_on_table(options_for(ppo, tree_file, env=env, total_steps=40), ppo.make_model)
    rewards = policy.model.get_env().unwrapped.vector_env.recorded.rewards
    table = load_table(str(tree_file))
    np.testing.assert_array_equal(rewards, node_rewards(table, "delta_ppl_params", 0.5))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain_runs": 1}, "pretrain_runs=1 and table=.* two ways to learn before"),
        ({"paper": True}, "two environments"),
        ({"total_steps": 205}, "total_steps=205 is no multiple of envs=10, .*: take 200"),
        ({"total_steps": 5}, "take 10"),
        ({"total_steps": 0}, "total_steps=0 must be at least 1"),
        ({"envs": 0}, "envs=0 must be at least 1"),
    ],
)
def test_what_a_table_cannot_honour_is_refused(tree_file, changes, message):
    with pytest.raises(ValueError, match=message):
        options_for(ppo, tree_file, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        *({"action": a} for a in ("pair", "joint")),
        *({"n_embd": 32}, {"learning_rate": 0.5}, {"tie_grad": "sum"}, {"max_iters": 6}),
        *({"initial_ties": "independent"}, {"iters_per_step": 2}, {"tokenizer": "bpe-300"}),
    ],
)
def test_an_environment_that_is_not_the_tables_is_refused(tree_file, changes):
    env = dataclasses.replace(real_config(str(tree_file)), **changes)
    ((name, _),) = changes.items()
    with pytest.raises(ValueError, match=rf"env\.{name}=.*, but table .* was made with "):
        options_for(maskable_ppo, tree_file, env=env)


def test_what_is_no_table_of_decisions_is_refused(patterns_file, tmp_path, capsys):
    with pytest.raises(ValueError, match="holds fixed sharings and no decisions"):
        options_for(ppo, patterns_file)
    with pytest.raises(FileNotFoundError, match="no such file"):
        options_for(ppo, tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no table")
    with pytest.raises(ValueError, match="damaged or no table"):
        options_for(ppo, tmp_path / "text.npz")
    for arguments, message in (
        (["--table", "nothing"], "table='nothing' is unknown"),
        (["--envs", "4"], "envs=4 are runs to learn from before the recorded one"),
    ):
        with pytest.raises(SystemExit) as ended:
            ppo.main(arguments)
        assert ended.value.code == 2
        said = capsys.readouterr()
        assert message in " ".join((said.out + said.err).replace("│", " ").split())


def test_a_run_on_another_text_is_refused_before_there_is_a_folder(tree_file, tmp_path):
    env = dataclasses.replace(real_config(str(tree_file)), corpus="synthetic:30000")
    for program in (ppo, evolution):
        options = program.Options.for_table(str(tree_file), env=env, runs_dir=tmp_path / "runs")
        with pytest.raises(ValueError, match="was made on a text with"):
            program.train(options)
    assert not (tmp_path / "runs").exists()


def test_the_table_of_a_local_text_needs_it_named(tree_file, tmp_path, monkeypatch, capsys):
    from tiegym.bench.table import write_table

    table = load_table(str(tree_file))
    config = {**table.facts["config"], "corpus": "mine"}
    path = tmp_path / "tree-3x2-mine-owner.npz"
    write_table(path, dataclasses.replace(table, facts={**table.facts, "config": config}))
    arguments = ["--table", str(path), "--total-steps", "400", "--quiet"]
    arguments += ["--runs-dir", str(tmp_path / "runs")]
    with pytest.raises(SystemExit) as ended:
        ppo.main(arguments)
    assert ended.value.code == 2
    assert "give it with --env.corpus" in capsys.readouterr().err
    ppo.main([*arguments, "--env.corpus", "synthetic:20000"])
    assert read_run(next((tmp_path / "runs").iterdir())).config["protocol"] == "tabulated"


@pytest.mark.parametrize("wrong", [(0,), (5,), (30, 20), (20, 20), (400,)])
def test_checkpoints_that_are_none_are_refused(tree_file, wrong):
    with pytest.raises(ValueError, match="must be ascending multiples of envs=10, up to"):
        learn_on_table(options_for(ppo, tree_file), ppo.make_model, wrong)
    with pytest.raises(ValueError, match="table=None"):
        learn_on_table(ppo.Options(), ppo.make_model)


def test_differences_of_many_are_those_of_each():
    def levels():
        return gymnasium.wrappers.TransformReward(KnownAnswer(sweeps=1), lambda r: r - 1.0)

    many = VecRewardDifferences(DummyVecEnv([levels, levels]))
    single = [RewardDifferences(levels()) for _ in range(2)]
    many.reset()
    for one in single:
        one.reset()
    rng = np.random.default_rng(0)
    for _ in range(11):
        actions = rng.integers(5, size=2)
        _, rewards, ended, _ = many.step(actions)
        for k, one in enumerate(single):
            _, reward, terminated, _, _ = one.step(actions[k])
            assert rewards[k] == reward
            assert ended[k] == terminated
            if terminated:
                one.reset()


def test_evolution_searches_among_recorded_runs(tree_file, tmp_path):
    table = load_table(str(tree_file))
    options = evolution.Options.for_table(str(tree_file), seed=HELD_OUT, runs_dir=tmp_path)
    options = dataclasses.replace(options, quiet=True, total_steps=1000)
    history, in_all = evolution.search_on_table(options)
    spent = [decisions for decisions, _ in history]
    assert spent == sorted(spent)
    assert all(decisions % 8 == 0 for decisions in spent)  # 2 runs of 4 decisions each
    assert in_all == 5 * 8  # what is known already costs none, and there are five sharings
    final = table.arrays["fixed_val"][:2, :, -1].mean(axis=0)
    assert history[-1][1].cost == pytest.approx(final.min())  # it has seen all five
    assert table.sharing_of(history[-1][1].ties) == final.argmin()

    run = read_run(evolution.train(options))
    assert run.config["protocol"] == "tabulated"
    assert run.summary["table_steps"] == in_all
    assert run.summary["table_seeds"] == run.config["table_seeds"] == [0, 1]
    assert "extra_iterations" not in run.summary
    assert run.config["env"]["initial_ties"] == list(history[-1][1].ties)
    recorded = table.arrays["fixed_val"][HELD_OUT, final.argmin(), -1]
    assert run.summary["final"]["val_loss"] == pytest.approx(float(recorded), abs=1e-6)
    assert (run.folder / "search.jsonl").read_text().count("\n") > 5


def test_evolution_on_a_table_looks_at_other_seeds_alone_and_has_a_price(tree_file):
    options = evolution.Options.for_table(str(tree_file), total_steps=400)
    table = load_table(str(tree_file))
    few = dataclasses.replace(options, total_steps=27)
    history, spent = evolution.search_on_table(few)
    assert spent == 24  # three candidates, and no fourth
    history, spent = evolution.search_on_table(options, leave_out=0)
    best = history[-1][1]
    assert spent == 5 * 4
    assert best.cost == pytest.approx(table.arrays["fixed_val"][1, :, -1].min())
    env = real_config(str(tree_file), "delta_ppl_params", 10.0)
    dear = dataclasses.replace(options, env=env)
    assert evolution.search_on_table(dear)[0][-1][1].n_independent == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluations": 30}, "evaluations=30 .*give --total-steps"),
        ({"budget": 10}, "budget=10 .*give --total-steps"),
    ],
)
def test_evolution_refuses_what_a_table_has_not(tree_file, changes, message):
    with pytest.raises(ValueError, match=message):
        evolution.Options.for_table(str(tree_file), **changes)
    few = evolution.Options.for_table(str(tree_file), total_steps=7)
    with pytest.raises(ValueError, match="total_steps=7: a candidate takes 8 decisions"):
        evolution.search_on_table(few)
