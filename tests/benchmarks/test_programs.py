"""The benchmarks measure what they say; how fast anything is, is not tested."""

import socket

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import (
    breakdown,
    compressed_cost,
    data_parallel,
    features,
    library_models,
    many_runs,
    private_cost,
    scaling,
    throughput,
)
from benchmarks.plain_gpt import PlainGPT, PlainLoop
from tests.ranks import Started
from tests.tiegym.small import SMALL
from tiegym import TieEnv, ties
from tiegym.transformer.block import BlockWeights, Shape
from tiegym.transformer.gpt import TiedTransformer

SHAPE = Shape(vocab_size=23, n_layer=3, n_head=2, n_embd=16, block_size=8)
PLAIN_NAMES = BlockWeights(
    *("norm_1.weight", "norm_1.bias", "qkv.weight", "qkv.bias", "out.weight", "out.bias"),
    *("norm_2.weight", "norm_2.bias", "mlp_in.weight", "mlp_in.bias"),
    *("mlp_out.weight", "mlp_out.bias"),
)


def windows(seed=0):
    tokens = np.random.default_rng(seed).integers(SHAPE.vocab_size, size=(4, 9))
    return torch.from_numpy(tokens[:, :-1]), torch.from_numpy(tokens[:, 1:])


def test_the_plain_transformer_is_the_same_model_without_tying():
    model = TiedTransformer(SHAPE, np.arange(3))
    model.initialize(0)
    plain = PlainGPT(SHAPE)
    with torch.no_grad():
        plain.tokens.weight.copy_(model.token_embedding)
        plain.positions.weight.copy_(model.position_embedding)
        for layer, block in enumerate(plain.blocks):
            for name, value in zip(PLAIN_NAMES, model.independent(layer).weights, strict=True):
                block.get_parameter(name).copy_(value)
    assert sum(p.numel() for p in plain.parameters()) == SHAPE.params(3)
    torch.testing.assert_close(plain(*windows()), model.loss(*windows()))


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_plain_loop_trains(checkpoint):
    tokens = np.arange(1000) % SHAPE.vocab_size
    cpu = torch.device("cpu")
    torch.manual_seed(0)  # its initial weights and batches are drawn from the global generator
    loop = PlainLoop(SHAPE, tokens, 4, "float32", cpu, checkpoint_activations=checkpoint)
    loop.optimizer.param_groups[0]["lr"] = 1e-2  # a counting sequence is learned at once
    loop.iterate(1)
    first = loop.loss
    loop.iterate(60)
    assert loop.loss < first - 1


@pytest.mark.parametrize(
    ("pattern", "tie_grad", "trained"),
    [("independent", "owner", 3), ("tied", "owner", 1), ("tied", "sum", 3)],
)
def test_the_floor_counts_the_matrix_products_that_are_done(pattern, tie_grad, trained):
    model = TiedTransformer(SHAPE, ties.pattern(pattern, 3), tie_grad)
    model.initialize(0)
    with FlopCounterMode(display=False) as counter:
        model.loss(*windows()).backward()
    by_kind = counter.get_flop_counts()["Global"]
    counted = sum(n for kind, n in by_kind.items() if "attention" not in str(kind))
    tokens, attention = 4 * 8, 2 * SHAPE.block_size * SHAPE.n_embd
    expected = breakdown.operations(SHAPE, tokens, trained) - 3 * 3 * tokens * attention
    assert counted == expected
    forward = breakdown.operations(SHAPE, tokens, -1)
    assert breakdown.operations(SHAPE, tokens, 3) == 3 * forward


def test_the_parts_of_a_step_are_disjoint_and_add_up():
    env = TieEnv(**SMALL | {"max_iters": 100})
    env.reset(seed=0)
    env.step(1)
    before = env.model.loss
    clock = breakdown.Clock()
    begin = clock.wrapped("whole", lambda: breakdown.parts_of_a_step(env, 2))
    parts = begin()
    assert {"backward pass", "evaluation", "AdamW", "layer_stats"} <= parts.keys()
    assert 0 < sum(parts.values()) <= clock.seconds["whole"]
    assert env.model.loss == before  # nothing stays wrapped


def test_a_nested_part_counts_once():
    clock = breakdown.Clock()
    inner = clock.wrapped("inner", lambda: sum(range(300_000)))
    clock.wrapped("outer", inner)()
    assert clock.seconds["inner"] > 10 * clock.seconds["outer"] > 0


def test_throughput_and_scaling_run(capsys):
    small = throughput.Options("synthetic:40000", "bytes", device="cpu", n_layer=2)
    for quartiles in throughput.speedup(small, "tied", "owner", 2):
        assert quartiles[0] <= quartiles[1] <= quartiles[2]
    scaling.depth_row(scaling.Options(device="cpu", repeats=2), n_layer=2, n_independent=1)
    row = capsys.readouterr().out.split("|")
    shape = Shape(vocab_size=256, n_layer=2, n_head=4, n_embd=128, block_size=128)
    assert float(row[7]) == pytest.approx(shape.params(1) / shape.params(2), abs=1e-3)


def test_soft_changes_are_a_share_of_their_steps():
    options = private_cost.Options(changes=4, device="cpu")
    shares = private_cost.soft_shares(options, "lora:1")
    assert len(shares) == 4
    assert 0 < max(shares) < 1


def test_the_cost_of_each_compression_is_measured(capsys):
    compressed_cost.run(compressed_cost.Options(repeats=2, n_embd=32, device="cpu"))
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    ratios = [
        float(row[1]) for row in rows if row[0].startswith(("| cycle:2, ", "| independent, "))
    ]
    assert len(ratios) == 2 * len(compressed_cost.KINDS)
    assert min(ratios) > 0.1


@pytest.mark.slow
def test_the_worth_of_taylor_is_measured_on_every_tie_that_differs(capsys):
    options = features.Options(
        repeats=2, steps=10, seeds=1, n_embd=16, corpus="synthetic:40000", device="cpu"
    )
    pairs = features.foreseen(options, "independent", 0)
    assert len(pairs) == 2 * (1 + 2 + 3 + 4 + 5)  # two sweeps over layers 1 to 5
    assert all(d != 0 and change != 0 for d, change in pairs)
    assert len(features.foreseen(options, "tied", 0)) == 0
    features.run(options)
    assert capsys.readouterr().out.count("| sequence:3 | ") == 1


def test_the_bare_loop_trains_the_same_model_as_the_environment():
    options = library_models.Options(
        n_layer=2, n_embd=16, block_size=16, iterations=2, device="cpu"
    )
    env = library_models.start(options, model="gpt2", corpus="synthetic:20000")
    assert library_models.trained(options, env)() > 0
    optimizers = []

    class Watched(torch.optim.AdamW):
        def __init__(self, parameters, **arguments):
            super().__init__(parameters, **arguments)
            optimizers.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "AdamW", Watched)
        assert library_models.bare(options, env)() > 0
    (plain,) = optimizers
    ((group,), (its,)) = plain.param_groups, env.optimizer.param_groups
    assert {n: group[n] for n in ("lr", "weight_decay", "fused", "betas", "eps")} == {
        n: its[n] for n in ("lr", "weight_decay", "fused", "betas", "eps")
    }
    tied = env.model.library.transformer.h[0].attn.c_attn.weight
    assert tied.numel() * 2 == sum(
        p.numel() for p in group["params"] if p.shape == tied.shape
    )  # the bare model has both layers, the tied one has one
    assert all(p.grad is not None for p in group["params"])


def test_what_many_runs_cost_is_counted(tmp_path, capsys):
    (tmp_path / "agent").mkdir()
    (tmp_path / "config.json").write_text("1234")
    (tmp_path / "agent" / "events").write_text("1" * 1000)
    many_runs.main([str(tmp_path), "--tasks", "0"])
    said = capsys.readouterr().out.splitlines()
    counted = "2 files, 1,004 bytes (agent/events 1,000, config.json 4)"
    assert said[0] == f"{tmp_path}: {counted}"
    assert said[1].startswith("a run is sent as ")


def test_two_processes_are_measured_against_one(tmp_path, monkeypatch):
    monkeypatch.setattr(data_parallel, "TIES", ("tied",))
    options = data_parallel.Options(
        repeats=2, steps=1, corpus="synthetic:40000", n_layer=2, n_embd=16, batch_size=2
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = Started(lambda rank: data_parallel.measure(rank, options, port), tmp_path)
    assert set(ranks.codes()) == {0}, ranks.said(0) + ranks.said(1)
    row = ranks.said(0).splitlines()[-1].split("|")
    shape = Shape(vocab_size=256, n_layer=2, n_head=4, n_embd=16, block_size=128)
    assert row[1].strip() == "tied"
    assert row[5].strip() == f"{4 * shape.params(1):,}"
    assert ranks.said(1) == ""


def test_fewer_independent_layers_send_less_by_calculation(capsys):
    data_parallel.calculate(16)
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines()]
    assert [row[2].strip() for row in rows] == ["48", "7", "1"]
    sent = [float(row[5]) for row in rows]
    assert sent == sorted(sent, reverse=True)
    assert sent[0] == pytest.approx(2 * 7 / 8 * 2 * 1.556e9 / 1e9, abs=0.01)
