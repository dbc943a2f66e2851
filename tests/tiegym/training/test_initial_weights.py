"""Episodes that begin with an exported model's weights, and embeddings that train no more."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import tiegym
from tests.tiegym.small import SMALL
from tiegym.env import TieEnv

PARTS = ("block", "attention+mlp")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Models that were trained for a step, by what ties apart and what is private."""
    folder = tmp_path_factory.mktemp("models")

    def export(name, **config):
        env = TieEnv(**SMALL | {"initial_ties": "cycle:2", "action": "pair"} | config)
        env.reset(seed=7)
        env.step(0)  # (0, 0): the ties stay
        env.export(folder / name)
        return str(folder / name)

    made = {p: export(f"{p}.safetensors", tie_parts=p) for p in PARTS}
    return made | {
        "norms": export("norms.safetensors", private="norms"),
        "folder": str(folder),
    }


def logits(model):
    tokens = torch.arange(24).view(2, 12) % model.shape.vocab_size
    with torch.no_grad():
        return model.eval()(tokens)


@pytest.mark.parametrize("private", ["none", "norms", "norms+scales+lora:2"])
@pytest.mark.parametrize("ties", ["cycle:2", "independent"])
@pytest.mark.parametrize("of", PARTS)
@pytest.mark.parametrize("tie_parts", PARTS)
def test_it_computes_what_the_exported_model_does(files, of, tie_parts, ties, private):
    changes = {"tie_parts": tie_parts, "initial_ties": ties, "private": private}
    env = TieEnv(**SMALL | changes | {"initial_weights": files[of]})
    env.reset(seed=0)
    theirs = tiegym.load_model(files[of])
    assert theirs.ties.tolist() == [0, 1, 0, 1] * theirs.n_parts
    torch.testing.assert_close(logits(env.model), logits(theirs))


def test_private_norms_are_taken_over_layer_by_layer(files):
    env = TieEnv(**SMALL, private="norms", initial_ties="tied", initial_weights=files["norms"])
    env.reset(seed=0)
    theirs = tiegym.load_model(files["norms"])
    for layer in range(4):
        mine, own = env.model.private_part(layer), theirs.private_part(layer)
        assert all(map(torch.equal, mine.parameters(), own.parameters()))
    assert not torch.equal(  # they had been trained
        theirs.private_part(0).norm_1_weight, theirs.private_part(1).norm_1_weight
    )


def test_the_seed_decides_all_but_the_weights(files):
    env = TieEnv(**SMALL, initial_weights=files["block"])
    found = []
    for seed in (0, 1, 0):
        env.reset(seed=seed)
        weights = [p.detach().clone() for p in env.model.parameters()]
        found.append((weights, env.step(0)[-1]["train_loss"]))
    assert all(map(torch.equal, found[0][0], found[1][0]))
    assert found[0][1] == found[2][1] != found[1][1]


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        ({"n_layer": 3}, ValueError, r"has n_layer=4, but this transformer 3: they must"),
        ({"n_embd": 32}, ValueError, r"has n_embd=16, but this transformer 32"),
        ({"n_head": 4}, ValueError, r"has n_head=2, but this transformer 4"),
        ({"block_size": 8}, ValueError, r"has block_size=16, but this transformer 8"),
        ({"tokenizer": "bpe-300"}, ValueError, r"has vocab_size=256"),
        ({"initial_weights": "nowhere"}, FileNotFoundError, "there is no such run folder or file"),
        ({"initial_weights": 3}, ValueError, "initial_weights=3 must be of type str or NoneType"),
        ({"private": "scales", "init": "admin"}, ValueError, "init='admin' must be 'gpt2' with"),
        ({"init_std": 0.1}, ValueError, "init_std=0.1 must be 0.02 with initial_weights"),
        ({"residual_scale": "group"}, ValueError, "residual_scale='group' must be 'depth' with"),
        ({"embeddings": "none"}, ValueError, "embeddings='none' is unknown"),
    ],
)
def test_what_does_not_fit_is_refused_at_construction(files, config, error, message):
    with pytest.raises(error, match=message):
        TieEnv(**SMALL | {"initial_weights": files["block"]} | config)


def test_other_private_parts_and_damage_are_refused(files, tmp_path):
    with pytest.raises(ValueError, match=r"private='norms', but this transformer 'scales'"):
        TieEnv(**SMALL, private="scales", initial_weights=files["norms"])
    with pytest.raises(FileNotFoundError, match=r"holds no model.safetensors"):
        TieEnv(**SMALL, initial_weights=files["folder"])
    damaged = tmp_path / "damaged.safetensors"
    content = Path(files["block"]).read_bytes()
    damaged.write_bytes(content[:-9] + bytes(9))
    with pytest.raises(ValueError, match="damaged"):
        TieEnv(**SMALL, initial_weights=str(damaged))


def test_the_weights_of_a_model_of_other_words_are_refused(tmp_path):
    texts = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path, line in zip(texts, ("one two three\n", "four five six\n"), strict=True):
        path.write_text(line * 300)
    env = TieEnv(**SMALL | {"tokenizer": "word", "corpus": str(texts[0])})
    env.reset(seed=0)
    env.export(tmp_path / "words.safetensors")
    config = {"tokenizer": "word", "initial_weights": str(tmp_path / "words.safetensors")}
    TieEnv(**SMALL | config | {"corpus": str(texts[0])})
    with pytest.raises(ValueError, match="was trained with another tokenizer"):
        TieEnv(**SMALL | config | {"corpus": str(texts[1])})


# Embeddings that train no more


def frozen(**config):
    changes = {"embeddings": "frozen", "action": "joint", "choices": "tie+freeze"}
    env = TieEnv(**SMALL | changes | config)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("private", ["none", "norms"])
def test_frozen_embeddings_stay_and_take_no_memory_of_training(private):
    env = frozen(private=private)
    before = [env.model.token_embedding.clone(), env.model.position_embedding.clone()]
    expected = env.unwrapped._info()
    for choices in ([0, 1, 0, 0], [1, 1, 2, 4], [0, 0, 1, 2]):
        *_, info = env.step(np.array(choices))
        trains = [p for p in env.model.parameters() if p.requires_grad]
        held = sum(p.numel() for p in env.model.parameters())
        numbers = sum(p.numel() for p in trains)
        assert info["trainable_params"] == numbers
        assert info["model_state_bytes"] == 4 * (held + 3 * numbers) + 4 * len(trains)
    assert torch.equal(before[0], env.model.token_embedding)
    assert torch.equal(before[1], env.model.position_embedding)
    assert expected["model_state_bytes"] == info["model_state_bytes"]  # all are tied again
    assert expected["trainable_params"] == info["trainable_params"]


def test_copies_of_frozen_embeddings_go_on_to_the_same_bits(tmp_path):
    env = frozen()
    env.step(np.array([0, 1, 3, 4]))
    env.save_checkpoint(tmp_path / "checkpoint.safetensors")
    again = frozen()
    again.load_checkpoint(tmp_path / "checkpoint.safetensors")
    twins = [again, env.fork(), copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    action = np.array([0, 1, 1, 3])
    info = env.step(action)[-1]
    for twin in twins:
        assert twin.step(action)[-1]["val_loss"] == info["val_loss"]
        assert all(map(torch.equal, twin.model.parameters(), env.model.parameters()))


def test_a_checkpoint_with_moments_of_frozen_embeddings_is_refused(tmp_path):
    env = frozen()
    env.step(np.array([0, 1, 2, 3]))
    snapshot = env.snapshot()
    moment = torch.zeros_like(env.model.token_embedding)
    snapshot.tensors["optimizer.exp_avg.token_embedding"] = moment
    with pytest.raises(ValueError, match="tensor"):
        env.restore(snapshot)
