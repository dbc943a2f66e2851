"""Many transformers trained at once are what one trainer each would have trained."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.tiegym.small import SMALL
from tiegym import parts
from tiegym.config import TieConfig
from tiegym.data.corpora import load_corpus
from tiegym.training import population_places
from tiegym.training.population import Population
from tiegym.training.population_stats import layer_stats, sample_weights
from tiegym.training.trainer import Trainer
from tiegym.transformer.layer_stats import layer_stats as single_layer_stats
from tiegym.transformer.layer_stats import sample_weights as single_sample_weights

N = 3


def config_of(**changes):
    return TieConfig(**{**SMALL, "max_iters": 60, **changes})


def made(config, n=N):
    """A population and a trainer for each of its members, from the same seeds."""
    corpus = load_corpus(config.corpus, config.tokenizer)
    ties = parts.parse(config.initial_ties, config.n_layer, config.n_parts)
    population = Population(config, corpus, n)
    population.reset({member: 10 + member for member in range(n)}, dict.fromkeys(range(n), ties))
    trainers = [Trainer(config, corpus) for _ in range(n)]
    for member, trainer in enumerate(trainers):
        trainer.reset(10 + member, ties)
    return population, trainers


def random_ties(config, rng, member_count=N):
    ties = {
        member: parts.sample(config.n_layer, config.n_parts, rng) for member in range(member_count)
    }
    frozen = {member: np.zeros(len(vector), dtype=bool) for member, vector in ties.items()}
    if config.choices == "tie+freeze":
        for member, vector in ties.items():
            own = vector == parts.layers(len(vector), config.n_layer)
            frozen[member] = own & (rng.random(len(vector)) < 0.3)
    return ties, frozen


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_grad": "sum", "dropout": 0.2},
        {"tie_parts": "attention+mlp", "choices": "tie+freeze", "lr_decay": "cosine"},
        {"private": "norms+scales+lora:2", "choices": "tie+freeze", "tie_grad": "sum"},
        {"private": "norms", "embeddings": "frozen", "warmup_iters": 8, "weight_decay": 0.3},
        {"grad_accum": 2, "loss_chunk": 8, "grad_clip": 0.1, "dropout": 0.1},
        {"private": "scales", "init": "admin", "residual_scale": "group", "grad_clip": 0.0},
    ],
    ids=str,
)
def test_members_equal_trainers_over_50_iterations_of_random_ties(changes):
    config = config_of(**changes)
    population, trainers = made(config)
    rng = np.random.default_rng(0)
    everyone = range(N)
    for start in range(0, 52, 4):
        ties, frozen = random_ties(config, rng)
        population.retie(ties, frozen)
        for member, trainer in enumerate(trainers):
            trainer.retie(ties[member], frozen[member].tolist())
        before = sample_weights(population, everyone)
        alone_before = [single_sample_weights(trainer.model) for trainer in trainers]
        losses = population.train(dict.fromkeys(everyone, 4), dict.fromkeys(everyone, start))
        alone = torch.stack([trainer.train(4, start) for trainer in trainers])
        torch.testing.assert_close(losses, alone, rtol=0, atol=1e-5)
        alone = torch.stack([trainer.validation_loss() for trainer in trainers])
        torch.testing.assert_close(population.validation_losses(everyone), alone, rtol=0, atol=1e-5)
        alone = torch.stack(
            [
                single_layer_stats(trainer.model, own, config.feature_names)
                for trainer, own in zip(trainers, alone_before, strict=True)
            ]
        )
        stats = layer_stats(population, everyone, before)
        torch.testing.assert_close(stats, alone, rtol=0, atol=1e-3)
    for member, trainer in enumerate(trainers):
        mine, alone = population.state(member), trainer.state()
        assert mine.keys() == alone.keys()  # the same weights exist, and the same moments
        for name, tensor in alone.items():
            if name.startswith(("rng.", "validation.", "optimizer.step.")):
                assert torch.equal(mine[name], tensor), name
        assert population.roots(member) == trainer.model.roots
    np.testing.assert_allclose(
        population.test_losses(everyone), [trainer.test_loss() for trainer in trainers], atol=1e-5
    )


def test_float64_gradients_are_those_of_autograd(monkeypatch):
    wide = (torch.float64, torch.float64)
    for module in ("workload", "resolve"):
        monkeypatch.setattr(f"tiegym.training.{module}.resolve_dtype", lambda *_: wide)
    config = config_of(private="norms+lora:2", tie_grad="sum", grad_clip=0.0)
    population, trainers = made(config)
    ties, frozen = random_ties(config, np.random.default_rng(1))
    population.retie(ties, frozen)
    population.train(dict.fromkeys(range(N), 1), dict.fromkeys(range(N), 0))
    for member, trainer in enumerate(trainers):
        trainer.retie(ties[member])
        trainer.train(1)
        mine = population.state(member)
        for name, p in trainer.model.named_parameters():
            # The first moment after one step is a tenth of the gradient.
            moment = mine[f"optimizer.exp_avg.{name}"]
            torch.testing.assert_close(moment, 0.1 * p.grad, rtol=1e-9, atol=1e-14)


def test_a_weight_gradient_is_computed_for_those_that_train_it_alone(monkeypatch):
    given = []
    add = population_places.Stacked.add

    def watched(self, name, gradient):
        given.append((name, len(gradient)))
        add(self, name, gradient)

    monkeypatch.setattr(population_places.Stacked, "add", watched)
    population, _ = made(config_of())
    ties = {0: np.array([0, 0, 0, 0]), 1: np.array([0, 1, 1, 3]), 2: np.array([0, 0, 2, 2])}
    population.retie(ties, {member: np.zeros(4, dtype=bool) for member in ties})
    population.train(dict.fromkeys(ties, 1), dict.fromkeys(ties, 0))
    assert [k for name, k in given if name == "qkv_weight"] == [1, 1, 1, 3]  # layers 3, 2, 1, 0
    held = population.stores["block"]
    assert len(held.weights) == len(held.exp_avg) == len(held.gradients) == 1 + 3 + 2


def test_members_that_are_at_other_iterations_train_with_their_own_rates():
    config = config_of(warmup_iters=10, lr_decay="linear")
    population, trainers = made(config)
    iterations, starts = {0: 4, 1: 1, 2: 3}, {0: 0, 1: 30, 2: 55}
    losses = population.train(iterations, starts)
    for member, trainer in enumerate(trainers):
        k = iterations[member]
        torch.testing.assert_close(losses[member, :k], trainer.train(k, starts[member]))
        assert (losses[member, k:] == 0).all()
        for name, value in trainer.state().items():
            if name.startswith("model."):
                torch.testing.assert_close(population.state(member)[name], value, rtol=0, atol=1e-5)


def test_some_members_train_and_are_reset_while_others_stay():
    population, _ = made(config_of())
    before = population.state(2)
    population.train({0: 2, 1: 2}, {0: 0, 1: 0})
    population.reset({1: 99}, {1: np.array([0, 1, 0, 1])})
    population.retie({0: np.array([0, 1, 2, 3])}, {0: np.zeros(4, dtype=bool)})
    after = population.state(2)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(name.startswith("optimizer") for name in population.state(1))
    trainer = Trainer(population.config, load_corpus(population.config.corpus, "bytes"))
    trainer.reset(99, np.array([0, 1, 0, 1]))
    fresh = trainer.state()
    assert all(torch.equal(population.state(1)[name], fresh[name]) for name in fresh)


def test_how_many_are_computed_at_a_time_changes_nothing_but_rounding(monkeypatch):
    population, _ = made(config_of())
    together, _ = made(config_of())
    steps = dict.fromkeys(range(N), 3), dict.fromkeys(range(N), 0)
    expected = together.train(*steps)
    monkeypatch.setitem(population_places.ACTIVATION_BYTES, "cpu", 1)
    assert len(population_places.together(population, range(N), True)) == N
    torch.testing.assert_close(population.train(*steps), expected, rtol=0, atol=1e-6)


def test_bytes_are_those_of_the_tensors_that_are_held():
    config = config_of(choices="tie+freeze", private="norms", embeddings="frozen")
    population, _ = made(config)
    ties, frozen = random_ties(config, np.random.default_rng(3))
    population.retie(ties, frozen)
    held = sum(
        tensor.nbytes
        for store in population.stores.values()
        for tensor in (
            store.weights,
            store.gradients,
            store.exp_avg,
            store.exp_avg_sq,
            store.steps,
        )
    )
    assert sum(population.state_bytes().values()) == held
    for member, own in population.state_bytes().items():
        expected = population.expected_state_bytes(ties[member], frozen[member])
        assert own == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"compile": True}, "compile"),
        ({"checkpoint_activations": True}, "checkpoint_activations"),
        ({"private": "lora:2", "tie_change": "soft"}, "tie_change"),
        ({"features": "moved+taylor"}, "taylor"),
        ({"features": "moved+agreement", "tie_grad": "sum"}, "agreement"),
    ],
)
def test_what_only_a_single_one_can_do_is_refused(changes, named):
    config = config_of(**changes)
    corpus = load_corpus(config.corpus, config.tokenizer)
    with pytest.raises(ValueError, match=f"{named}.*TieEnv-v0"):
        Population(config, corpus, 2)


def test_a_state_goes_from_a_trainer_to_a_member_and_back():
    population, trainers = made(config_of(choices="tie+freeze"))
    trainer = trainers[0]
    ties, frozen = np.array([0, 1, 1, 3]), np.array([False, True, False, False])
    trainer.retie(ties, frozen.tolist())
    trainer.train(3)
    population.load_state(2, ties, trainer.state(), frozen)
    state = population.state(2)
    assert all(torch.equal(state[name], value) for name, value in trainer.state().items())
    other = Trainer(dataclasses.replace(population.config), load_corpus("synthetic:20000", "bytes"))
    other.load_state(ties, state, frozen.tolist())
    assert torch.equal(other.train(2, 3), trainer.train(2, 3))
