"""Iterations that run some of the layers."""

import copy
import pickle

import pytest
import torch

from tests.tiegym.small import SMALL
from tiegym.env import TieEnv
from tiegym.transformer.gpt import TiedTransformer


def trained(env, steps=3):
    """Weights and losses after some steps in which nothing is tied or untied."""
    infos = [env.step(0)[-1] for _ in range(steps)]
    losses = [(info["train_loss"], info["val_loss"]) for info in infos]
    return losses, [p.detach().clone() for p in env.model.parameters()]


def same(one, other):
    return one[0] == other[0] and all(map(torch.equal, one[1], other[1]))


def env_at(depths, **config):
    env = TieEnv(**SMALL | config)
    env.depths = depths
    env.reset(seed=0)
    return env


def test_each_iteration_runs_its_depth_and_evaluation_runs_all_layers(monkeypatch):
    ran = []
    real = TiedTransformer.hidden

    def hidden(self, tokens, depth=None):
        ran.append((self.training, depth))
        return real(self, tokens, depth)

    monkeypatch.setattr(TiedTransformer, "hidden", hidden)
    env = env_at([3, 1, 2, 4, 7, 1], grad_accum=2, max_iters=5, test_tokens=20)
    trained(env)
    in_training = [depth for training, depth in ran if training]
    assert in_training == [3, 3, 1, 1, 2, 2, 4, 4, 7, 7]  # each of two micro-batches
    assert {depth for training, depth in ran if not training} == {None}


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_all_layers_in_each_iteration_change_no_bit(tie_grad):
    plain = trained(env_at(None, tie_grad=tie_grad, dropout=0.1))
    assert same(trained(env_at([4] * 12, tie_grad=tie_grad, dropout=0.1)), plain)
    assert not same(trained(env_at([4, 3] * 6, tie_grad=tie_grad, dropout=0.1)), plain)


def test_what_is_copied_goes_on_at_the_same_depths():
    env = env_at([1, 2, 3, 4] * 3)
    env.step(0)
    copies = [env.fork(), copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    after = trained(env, 2)
    assert all(same(trained(twin, 2), after) for twin in copies)


def test_losses_can_be_asked_for_at_any_depth():
    env = env_at([1, 2, 3, 4] * 3)
    info = env.step(0)[-1]
    losses = [env.validation_loss(depth) for depth in (1, 4, 6)]
    assert losses[1] == env.validation_loss() == info["val_loss"]
    assert len(set(losses)) == 3
    assert env.test_loss(4) == env.test_loss() != env.test_loss(1)


def test_features_of_positions_that_do_not_run_say_that_nothing_depends_on_them():
    features = {"features": "agreement+taylor", "tie_grad": "sum", "initial_ties": "0,1,1,1"}
    env = env_at([2, 2, 2, 4] * 3, **features)
    observation, *_ = env.step(1)  # ends at depth 2; the cursor is on layer 2, which doesn't run
    assert observation["layer_stats"].tolist() == [1, 0] * 4
    observation, *_ = env.step(1)  # ends at depth 4; the cursor is on layer 3
    agreement, taylor = observation["layer_stats"].reshape(4, 2).T
    assert agreement[0] == 1
    assert (agreement[1:] < 1).all()
    assert taylor[0] != 0
    assert taylor[1:].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("depths", "config", "message"),
    [
        ([2] * 12, {"initial_ties": "0,0,2,0"}, "at least 3: fewer layers don't have all"),
        ([2] * 12, {"private": "norms"}, "at least 4"),
        ([2] * 12, {"initial_ties": "0,0,0,0,0,0,2,0", "tie_parts": "attention+mlp"}, "least 3"),
        ([1] * 12, {}, "at least 2"),
        ([4], {}, "must be 2, one for each iteration"),
    ],
)
def test_depths_that_leave_weights_out_are_refused(depths, config, message):
    env = env_at(depths, **config, action="pair")
    before = env.ties.tolist()
    with pytest.raises(ValueError, match=message):
        env.step(2)  # layer 1 is independent
    assert env.model.ties.tolist() == env.ties.tolist() == before
