"""Compiled blocks: any number of sizes in one process, and never uncompiled without a word."""

from functools import partial

import pytest
import torch
import torch._dynamo.testing

import tiegym
from tests.tiegym.small import SMALL

BOTH = {"tie_parts": "attention+mlp", "choices": "tie+freeze"}


@pytest.fixture
def counter(monkeypatch):
    torch._dynamo.reset()
    made = torch._dynamo.testing.CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=made))
    return made


def play(**changes):
    env = tiegym.TieEnv(**SMALL | changes | {"max_iters": 4}, compile=True)
    env.reset(seed=0)
    return [env.step(action)[1] for action in (1, 0)]


def test_many_sizes_in_one_process_are_all_compiled(counter):
    def graphs(n_embd, batch_size):
        before = counter.frame_count
        play(n_embd=n_embd, batch_size=batch_size)
        return counter.frame_count - before

    sizes = [(8, 2), (12, 2), (16, 1), (16, 3), (16, 6)]
    first = graphs(*sizes[0])
    assert first >= 3
    assert all(graphs(*size) == first for size in sizes[1:])
    assert all(graphs(*size) == 0 for size in sizes)  # what was compiled is used again


@pytest.mark.parametrize("private", ["none", "norms+scales+lora:2"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_compiled_block_gives_the_rewards_of_a_plain_one(
    counter, dropout, checkpointing, private
):
    changes = {"dropout": dropout, "checkpoint_activations": checkpointing, "private": private}
    env = tiegym.TieEnv(**SMALL | changes | {"max_iters": 4})
    env.reset(seed=0)
    assert play(**changes) == [env.step(action)[1] for action in (1, 0)]
    assert counter.frame_count >= 3


@pytest.mark.parametrize(("tie_grad", "graphs"), [("owner", 3), ("sum", 2)])
def test_soft_tie_changes_compile_nothing_anew(counter, tie_grad, graphs):
    changes = {"private": "norms+scales+lora:2", "tie_change": "soft", "tie_grad": tie_grad}
    env = tiegym.TieEnv(**SMALL | changes | {"max_iters": 60}, compile=True)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(20):
        env.step(env.action_space.sample())
    assert counter.frame_count == graphs
    for other in ("none", "norms", "lora:1", "lora:2", "scales", "norms+scales"):
        before = counter.frame_count
        play(private=other, tie_grad=tie_grad)
        assert counter.frame_count - before == graphs


@pytest.mark.parametrize("tie_grad", ["owner", "sum"])
def test_compressed_weights_need_no_graph_more(counter, tie_grad):
    """A block sees what is made of them, which are plain matrices."""
    play(tie_grad=tie_grad, n_embd=24)
    graphs = counter.frame_count
    changes = {"quantize": "int4", "factorize": "tt:4", "tie_grad": tie_grad, "n_embd": 32}
    env = tiegym.TieEnv(**SMALL | changes | {"max_iters": 4})
    env.reset(seed=0)
    assert play(**changes) == [env.step(action)[1] for action in (1, 0)]
    assert counter.frame_count == 2 * graphs


def test_where_pytorch_compiles_no_more_it_says_so(counter):
    with (
        torch._dynamo.config.patch(recompile_limit=1),
        pytest.raises(RuntimeError, match="compile=True: PyTorch refuses"),
    ):
        play(n_embd=32)


def test_generation_compiles_nothing(counter):
    env = tiegym.TieEnv(**SMALL, compile=True)
    env.reset(seed=0)
    tokens = tiegym.generate(env.model, torch.zeros(1, 3, dtype=torch.long), 20)
    assert tokens.shape == (1, 23)
    assert counter.frame_count == 0
    assert env.model.compiled


def test_parts_and_frozen_layers_need_few_graphs_whatever_the_ties(counter):
    changes = {"tie_parts": "attention+mlp", "choices": "tie+freeze", "action": "joint"}
    changes |= {"max_iters": 60, "n_embd": 20, "iters_per_step": 1, "test_tokens": 17}
    plain, compiled = (tiegym.TieEnv(**SMALL | changes, compile=flag) for flag in (False, True))
    plain.action_space.seed(0)
    for env in (plain, compiled):
        env.reset(seed=0)
    for step in range(40):
        action = plain.action_space.sample()
        assert compiled.step(action)[1] == plain.step(action)[1]
        if step == 20:
            halfway = counter.frame_count
    # Training where both parts learn, one of them, or none; and evaluation.
    assert halfway == counter.frame_count <= 5


@pytest.mark.parametrize(
    ("changes", "most"),
    [
        ({"features": "agreement+taylor"}, 3),
        ({"tie_grad": "owner", "features": "taylor"}, 4),
        ({"features": "taylor", **BOTH}, 8),
        ({"features": "agreement", "action": "joint", **BOTH}, 8),
        ({"embeddings": "frozen", "action": "joint", **BOTH}, 9),
    ],
    ids=str,
)
def test_features_of_positions_and_frozen_embeddings_need_few_graphs_more(counter, changes, most):
    changes = {"tie_grad": "sum", "max_iters": 100, "n_embd": 24} | changes
    plain, compiled = (tiegym.TieEnv(**SMALL | changes, compile=flag) for flag in (False, True))
    plain.action_space.seed(0)
    for env in (plain, compiled):
        env.reset(seed=0)
    for _ in range(40):
        action = plain.action_space.sample()
        mine, reward, *_ = compiled.step(action)
        its, expected, *_ = plain.step(action)
        assert reward == expected
        assert (mine["layer_stats"] == its["layer_stats"]).all()
    assert counter.frame_count <= most
