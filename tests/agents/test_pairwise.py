"""The pairwise policy: that it learns, what its scores depend on, and its use at another depth."""

import dataclasses

import numpy as np
import pytest
import torch

from agents import pairwise, ppo
from agents.protocols import Greedy
from tests.agents.known_answer import KnownAnswer, finds_the_best_ties, greedy_ties
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run
from tiegym.transformer.layer_stats import FEATURES

ENV = TieConfig(**SMALL)


def make(env, **changes):
    return pairwise.make_model(pairwise.Options(env=env.config, **changes), env)


def options(folder, **changes):
    return pairwise.Options(
        **{"runs_dir": folder, "quiet": True, "env": ENV, "n_steps": 4, "n_epochs": 1} | changes
    )


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("best", [[0, 1, 2, 3, 4], [0, 0, 1, 2, 3]])
def test_it_learns_the_best_tie_vector(best, seed):
    env = KnownAnswer(best, floor=2.0, noise=0.1)
    model = make(env, seed=seed)
    policy = Greedy(model, env)
    assert greedy_ties(policy, env) != best
    assert finds_the_best_ties(model, policy, env, steps=4000)


def test_what_it_learnt_at_5_layers_it_does_at_12():
    small = KnownAnswer([0, 0, 1, 2, 3], floor=2.0)
    trained = make(small, seed=0)
    assert finds_the_best_ties(trained, Greedy(trained, small), small, steps=4000)
    large = KnownAnswer([0, *range(11)], floor=2.0)
    model = make(large, seed=0)
    assert greedy_ties(Greedy(model, large), large) != large.best.tolist()
    model.policy.load_state_dict(trained.policy.state_dict())
    assert greedy_ties(Greedy(model, large), large) == large.best.tolist()


def observation(n, layer, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "ties": rng.integers(0, np.arange(1, n + 1)),
        "layer": np.int64(layer),
        "budget": np.array([0.5], dtype=np.float32),
        "loss": np.array([3.0, 3.1], dtype=np.float32),
        "layer_stats": rng.uniform(-1, 1, n * len(FEATURES)).astype(np.float32),
    }


def scores(model, seen):
    batch, _ = model.policy.obs_to_tensor(seen)
    return model.policy.scores_and_values(batch)[0].detach()


def test_only_targets_up_to_the_layer_can_be_chosen():
    model = make(KnownAnswer(), seed=0)
    seen = [observation(5, layer, k) for k in range(50) for layer in range(1, 5)]
    chosen = [int(model.predict(o, deterministic=False)[0]) for o in seen]
    assert all(target <= o["layer"] for target, o in zip(chosen, seen, strict=True))
    assert {0, 1, 2, 3, 4} == set(chosen)


def test_the_score_of_a_pair_depends_on_the_stats_of_its_two_layers_alone():
    model = make(KnownAnswer(), seed=0)
    seen = observation(5, 3)
    before = scores(model, seen)[0]
    f = len(FEATURES)
    seen["layer_stats"][1 * f : 2 * f] *= -1  # layer 1
    after = scores(model, seen)[0]
    assert after[1] != before[1]
    assert torch.equal(after[[0, 2, 3]], before[[0, 2, 3]])


def test_an_agent_of_another_run_decides_at_another_depth_without_learning(tmp_path):
    source = pairwise.train(options(tmp_path, name="source", pretrain_runs=1))
    deeper = dataclasses.replace(ENV, n_layer=7)
    folder = pairwise.train(options(tmp_path, env=deeper, source=source, seed=5))
    run = read_run(folder)
    assert run.config["protocol"] == "pretrained"
    assert run.config["source_run"] == str(source)
    assert run.summary["extra_iterations"] == ENV.max_iters
    assert len(run.steps) == ENV.steps_per_episode
    again = read_run(pairwise.train(options(tmp_path, env=deeper, source=source, seed=5)))
    assert [row["action"] for row in again.steps] == [row["action"] for row in run.steps]


def test_a_source_that_cannot_be_used_is_refused(tmp_path):
    other = ppo.train(ppo.Options(runs_dir=tmp_path, quiet=True, env=ENV, n_steps=4, n_epochs=1))
    with pytest.raises(ValueError, match=r"is a run of ppo: give one of agents\.pairwise"):
        pairwise.train(options(tmp_path, source=other))
    with pytest.raises(InputError, match="is no run folder"):
        pairwise.train(options(tmp_path, source=tmp_path / "nothing"))
    with pytest.raises(ValueError, match="brings a trained agent, but pretrain_runs=2"):
        options(tmp_path, source=other, pretrain_runs=2)
    with pytest.raises(ValueError, match=r"decides layer by layer, but env\.action='pair'"):
        options(tmp_path, env=dataclasses.replace(ENV, action="pair"))


def test_features_that_are_asked_for_are_seen_and_an_agent_of_others_is_refused(tmp_path):
    env = dataclasses.replace(ENV, features="moved+taylor")
    source = pairwise.train(options(tmp_path, env=env, name="source", pretrain_runs=1))
    deeper = dataclasses.replace(env, n_layer=5)
    run = read_run(pairwise.train(options(tmp_path, env=deeper, source=source)))
    assert run.config["env"]["features"] == "moved+taylor"
    default = [network[0].in_features for network in networks(ENV)]
    fewer = [network[0].in_features for network in networks(env)]
    assert fewer == [default[0] - 2, default[1] - 1]
    with pytest.raises(InputError, match="has an agent for features='moved"):
        pairwise.train(options(tmp_path, source=source))


def networks(config):
    """The scorer and the critic."""
    policy = make(TieEnv(**config.__dict__)).policy
    return policy.scorer, policy.critic


def test_the_critic_sees_the_losses_the_budget_the_share_and_the_mean_layer():
    model = make(KnownAnswer(), seed=0)

    def value(**changes):
        batch, _ = model.policy.obs_to_tensor(observation(5, 3) | changes)
        return model.policy.predict_values(batch).item()

    before = value()
    for k in range(2):  # the loss in training, and that of validation
        loss = np.array([3.0, 3.1], dtype=np.float32)
        loss[k] += 1
        assert value(loss=loss) != before
    assert value(budget=np.array([0.6], dtype=np.float32)) != before
    assert value(ties=np.arange(5)) != before
    stats = observation(5, 3)["layer_stats"]
    assert value(layer_stats=-stats) != before
    swapped = np.roll(stats, len(FEATURES))
    assert value(layer_stats=swapped) == pytest.approx(before)


def test_the_actor_sees_the_validation_loss_and_the_budget():
    model = make(KnownAnswer(), seed=0)
    before = scores(model, observation(5, 3))
    other = observation(5, 3) | {"loss": np.array([3.0, 4.1], dtype=np.float32)}
    assert not torch.equal(scores(model, other), before)
    other = observation(5, 3) | {"budget": np.array([0.6], dtype=np.float32)}
    assert not torch.equal(scores(model, other), before)
