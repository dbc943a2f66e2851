"""One transformer on two processes: as on one, but for rounding, and the same bits on both."""

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tests.ranks import Started, in_group
from tests.tiegym.default_dtype import default_dtype
from tests.tiegym.small import SMALL
from tiegym import TieEnv, TiePopulation
from tiegym.data.tasks.task import IGNORED
from tiegym.training import collectives, parallel
from tiegym.transformer.streams import begin_stream

BATCH = SMALL | {"batch_size": 4}
CASES = {
    "owner": {},
    "sum": {"tie_grad": "sum", "features": "moved+gradient+agreement+taylor"},
    "accumulated": {
        **{"grad_accum": 2, "grad_clip": 0.05, "tie_grad": "sum"},
        **{"checkpoint_activations": True, "loss_chunk": 16},
    },
    "parts": {
        **{"tie_parts": "attention+mlp", "choices": "tie+freeze", "private": "norms+scales"},
        **{"warmup_iters": 3, "lr_decay": "cosine", "embeddings": "frozen"},
    },
    "soft": {"private": "lora:2", "tie_change": "soft"},
    "compressed": {"quantize": "int8", "factorize": "tt:2"},
    "bfloat16": {"dtype": "bfloat16"},
    "masked": {"model": "bert", "tie_grad": "sum"},
}
TOLERANCE = {"bfloat16": 2e-2}
"""Relative, of losses; else 1e-5."""


def actions_of(env, seed=5):
    """Actions that tie, untie and freeze."""
    rng = np.random.default_rng(seed)
    return [int(rng.integers(env.action_space.n)) for _ in range(env.config.steps_per_episode)]


def digest(env):
    """Of all that the next iteration depends on."""
    state = env._trainer.state()
    made = hashlib.sha256()
    for name in sorted(state):
        made.update(name.encode() + state[name].flatten().view(torch.uint8).numpy().tobytes())
    return made.hexdigest()


def episode(changes, actions=None):
    """Losses and layer_stats after each step, the last infos, and digests of the weights."""
    env = TieEnv(**BATCH | changes)
    env.reset(seed=3)
    losses, stats, digests, n_bytes = [], [], [], []
    for action in actions or actions_of(env):
        observation, _, _, _, info = env.step(action)
        losses.append((info["train_loss"], info["val_loss"]))
        stats.append(observation["layer_stats"])
        digests.append(digest(env))
        n_bytes.append((env.step_stats.get("added_up_bytes_per_iteration"), info))
    return losses, stats, digests, n_bytes


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    """Each case's episode on both ranks."""

    def each(rank):
        return {name: episode(changes) for name, changes in CASES.items()}

    return Started(in_group(each), tmp_path_factory.mktemp("ranks")).results()


def test_a_stream_is_as_far_on_afterwards_whatever_the_default_dtype():
    states = []
    for default in (torch.float32, torch.float64):
        stream = torch.Generator().manual_seed(0)
        with default_dtype(default), parallel.own_stream(stream, SimpleNamespace(rank=1)):
            pass
        states.append(stream.get_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_train_as_one_process_does_but_for_rounding(on_two, case):
    alone, (together, _) = episode(CASES[case]), (ranks[case] for ranks in on_two)
    tolerance = TOLERANCE.get(case, 1e-5)
    np.testing.assert_allclose(together[0], alone[0], rtol=tolerance)
    np.testing.assert_allclose(together[1], alone[1], atol=100 * tolerance)
    for name in ("test_perplexity", "tokens", "trainable_params", "model_state_bytes"):
        theirs, ours = together[3][-1][1][name], alone[3][-1][1][name]
        assert theirs == pytest.approx(ours, rel=20 * tolerance if "perpl" in name else 0)


@pytest.mark.parametrize("case", CASES)
def test_after_each_change_of_ties_both_ranks_have_the_same_bits(on_two, case):
    first, second = (ranks[case] for ranks in on_two)
    assert first[2] == second[2]
    assert len(set(first[2])) == len(first[2])
    np.testing.assert_equal([i for _, i in first[3]], [i for _, i in second[3]])


def test_only_gradients_that_exist_are_sent(on_two):
    _, _, _, steps = on_two[0]["owner"]
    assert [n_bytes for n_bytes, _ in steps] == [4 * info["trainable_params"] for _, info in steps]
    sizes = {info["n_independent"]: n_bytes for n_bytes, info in steps}
    assert len(sizes) > 1
    assert sorted(sizes.values()) == [sizes[n] for n in sorted(sizes)]
    assert all(n_bytes is None for n_bytes, _ in episode({})[3])  # nothing is sent by one process


def copies(rank):
    """What forks, snapshots and checkpoints come to, on a rank."""
    env = TieEnv(**BATCH | {"dropout": 0.2, "action": "pair", "tie_grad": "sum"})
    actions = actions_of(env)
    env.reset(seed=3)
    for action in actions[:2]:
        env.step(action)
    snapshot, fork = env.snapshot(), env.fork()
    ends = []
    for one in (env, fork):
        for action in actions[2:]:
            one.step(action)
        ends.append(digest(one))
    env.restore(snapshot)
    for action in actions[2:]:
        env.step(None if rank else action)  # rank 0's counts
    return [*ends, digest(env)], [round(value, 6) for _, value in env._episode.history]


def mistakes(rank):
    """Errors that are the same on all ranks, by what is wrong."""
    found = {}

    def expect(name, do):
        with pytest.raises(ValueError) as error:  # noqa: PT011 - the messages are what is tested
            do()
        found[name] = str(error.value)

    expect("batch", lambda: TieEnv(**BATCH | {"batch_size": 3}))
    expect("accumulated", lambda: TieEnv(**BATCH | {"batch_size": 6, "grad_accum": 2}))
    expect("options", lambda: TieEnv(**BATCH | {"learning_rate": 1e-3 * (1 + rank)}))
    expect("text", lambda: TieEnv(**BATCH | {"corpus": f"synthetic:{20000 + rank}"}))
    env = TieEnv(**BATCH)
    expect("seed", lambda: env.reset(seed=rank))
    expect("population", lambda: TiePopulation(2, **BATCH))
    env.reset()  # without a seed, that of rank 0
    env.step(0)
    return found, digest(env)


def test_copies_errors_and_seeds_of_two_ranks(tmp_path):
    results = Started(in_group(lambda rank: (copies(rank), mistakes(rank))), tmp_path).results()
    (first, losses), (found, drawn) = results[0]
    (second, others), (found_too, drawn_too) = results[1]
    assert len({*first, *second}) == 1
    assert losses == others
    assert found == found_too
    assert drawn == drawn_too
    assert "batch_size=3 can't be divided among 2 ranks" in found["batch"]
    assert "such as 4" in found["batch"]
    assert "batch_size=6" in found["accumulated"]
    assert "grad_accum=2" in found["accumulated"]
    assert "ranks 0 and 1 disagree about learning_rate (0.001 and 0.002)" in found["options"]
    assert "corpus ('synthetic:20000' and 'synthetic:20001')" in found["text"]
    assert "disagree about seed (0 and 1)" in found["seed"]
    assert "one process" in found["population"]


def test_weights_that_are_no_longer_the_same_are_an_error_at_the_end(tmp_path):
    def drifts(rank):
        env = TieEnv(**BATCH | {"max_iters": 4})
        env.reset(seed=0)
        env.step(0)
        if rank:
            with torch.no_grad():
                next(env.model.parameters())[0, 0] += 1e-6
        with pytest.raises(RuntimeError, match="weights of rank 1 are no longer those of rank 0"):
            env.step(0)

    started = Started(in_group(drifts), tmp_path)
    assert started.codes() == [0, 0], started.said(0) + started.said(1)


def test_a_rank_that_is_left_alone_says_so(tmp_path):
    def leaves(rank):
        env = TieEnv(**BATCH)
        env.reset(seed=0)
        env.step(0)
        if rank:
            raise SystemExit(3)
        with pytest.raises(collectives.RankLost, match="rank 0 of 2 can't reach another rank"):
            env.step(0)

    started = Started(in_group(leaves), tmp_path)
    assert started.codes() == [0, 3], started.said(0)


def test_messages_are_of_whole_layers_and_few(monkeypatch):
    env = TieEnv(**BATCH | {"initial_ties": "independent"})
    env.reset(seed=0)
    env.step(3)
    layer = env.model.independent(1)
    (everything,) = collectives.messages_of(env.model, all_used=True)
    assert {*everything} == {*env.model.parameters()}
    size = sum(p.nbytes for p in layer.parameters())
    for least, counts in ((size, [1, 1, 1, 1, 0]), (size + 1, [2, 2, 0])):
        monkeypatch.setattr(collectives, "MESSAGE", least)
        messages = collectives.messages_of(env.model, all_used=True)
        shapes = [[p.shape for p in message] for message in messages]
        assert [found.count(layer.qkv_weight.shape) for found in shapes] == counts
        assert sum(map(len, messages)) == len(everything)


def test_rows_that_ask_for_more_count_for_more():
    trainer = TieEnv(**BATCH | CASES["masked"])._trainer
    draws = torch.Generator().manual_seed(0)
    vocabulary = trainer.workload.task.vocab_size
    logits = torch.randn((4, 16, vocabulary), generator=draws)
    targets = torch.randint(vocabulary, (4, 16), generator=draws)
    targets[0, 2:] = IGNORED
    whole, parts = trainer.workload.task.loss({"logits": logits}, targets), []
    for rank in (0, 1):
        batch = ({"logits": logits}, targets)
        (inputs, mine), times = parallel.share(
            batch, parallel.Ranks(rank, 2), trainer.workload.count
        )
        parts.append(trainer.workload.task.loss(inputs, mine) / times)
    torch.testing.assert_close(sum(parts), whole)
    assert parts[1] > parts[0]


def test_ranks_drop_different_things_and_their_stream_stays_common():
    drawn, after = [], []
    for rank in (0, 1, 0):
        stream = begin_stream(torch.Generator(), 7)
        with parallel.own_stream(stream, parallel.Ranks(rank, 2)):
            drawn.append(torch.rand(4, generator=stream).tolist())
        after.append(torch.rand(4, generator=stream).tolist())
    assert drawn[0] == drawn[2] != drawn[1]
    assert after[0] == after[1] == after[2] != drawn[0]


def test_one_process_has_no_ranks(tmp_path):
    assert parallel.current_ranks() is None
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert parallel.current_ranks() is None
        assert TieEnv(**SMALL)._trainer.ranks is None
    finally:
        dist.destroy_process_group()
