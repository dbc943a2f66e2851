"""The null models and the shallower transformer, as programs and in a comparison."""

import json

import numpy as np
import pytest

from baselines import random_fixed, random_raw, random_tying, shallow
from tests.tiegym.playing import MIXED
from tests.tiegym.small import SMALL
from tiegym import ties
from tiegym.analysis.groups import group_runs, policy_name
from tiegym.analysis.references import draws_raw_actions
from tiegym.analysis.rows import check_comparable, make_row
from tiegym.config import TieConfig
from tiegym.runs.input_errors import InputError
from tiegym.runs.recorder import read_run

ENV = TieConfig(**SMALL)


def made(module, tmp_path, seed=0, env=ENV, **options):
    return read_run(
        module.train(module.Options(seed=seed, runs_dir=tmp_path, quiet=True, env=env, **options))
    )


def test_a_drawn_vector_is_that_of_the_seed_from_the_first_iteration_to_the_last(tmp_path):
    runs = [made(random_fixed, tmp_path, seed) for seed in (0, 0, 1, 2, 3)]
    vectors = []
    for run in runs:
        (vector,) = {tuple(row["ties"]) for row in run.steps}
        assert run.config["drawn"] == {"ties": list(vector)}
        assert ties.validate(vector, ENV.n_layer).tolist() == list(vector)
        vectors.append(vector)
    assert vectors[0] == vectors[1]
    assert len(set(vectors)) > 1
    (group,) = group_runs(runs[1:])  # one policy, though each seed has its own ties
    assert group.label == "random-fixed"


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_of_a_model_with_layers_of_two_kinds_only_those_of_one_are_drawn(tmp_path, action):
    pytest.importorskip("transformers")
    mixed = {"model": "gemma3_text", "model_config": json.dumps(MIXED), "action": action}
    env = TieConfig(**SMALL | mixed)
    for seed in range(3):  # of one of which the first vector would tie two kinds
        run = made(random_fixed, tmp_path, seed, env)
        ties_of_run = run.steps[0]["ties"]
        assert ties_of_run[1] == 1
        assert ties_of_run[2] in (0, 2)
        assert ties_of_run[3] in (1, 3)
        assert all(row["ties"] == ties_of_run for row in run.steps)
    run = made(random_tying, tmp_path, 0, env)
    assert {row["ties"][1] for row in run.steps} == {1}
    with pytest.raises(InputError, match="size=2: the layers are of several kinds"):
        made(random_fixed, tmp_path, 0, env, size=2)


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_raw_draws_run_under_every_action_protocol(tmp_path, action):
    env = TieConfig(**SMALL | {"action": action, "iters_per_step": 1})
    runs = [made(random_raw, tmp_path, seed, env) for seed in (0, 0, 1)]
    taken = [[row["action"] for row in run.steps] for run in runs]
    assert taken[0] == taken[1] != taken[2]
    row = make_row("random-raw", runs[1:])
    assert draws_raw_actions(row) == (action == "layerwise")


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_shallow_transformer_has_fewer_layers_and_no_ties(tmp_path, layers):
    env = TieConfig(**SMALL | {"initial_ties": (0, 0, 2, 2)})
    run, deep = made(shallow, tmp_path, layers=layers, env=env), made(random_raw, tmp_path)
    assert run.config["env"]["n_layer"] == layers
    assert all(row["ties"] == list(range(layers)) for row in run.steps)
    assert policy_name(run) == f"shallow:{layers}"
    check_comparable([make_row("shallow", [run]), make_row("deep", [deep])])


def test_a_shallow_transformer_has_the_parameters_of_a_pattern_of_its_size(tmp_path):
    from baselines import fixed

    pattern = made(fixed, tmp_path, pattern="cycle:2")
    run = made(shallow, tmp_path, layers=2)
    sizes = [r.summary["final"]["trainable_params"] for r in (run, pattern)]
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("action", ["layerwise", "pair", "joint"])
def test_one_layer_trains_the_same_whatever_the_others_actions_are(tmp_path, action):
    run = made(shallow, tmp_path, layers=1, env=TieConfig(**SMALL | {"action": action}))
    plain = made(shallow, tmp_path, layers=1)
    assert [row["perplexity"] for row in run.steps] == [row["perplexity"] for row in plain.steps]
    deep = made(random_raw, tmp_path, env=TieConfig(**SMALL | {"action": action}))
    check_comparable([make_row("shallow", [run]), make_row("deep", [deep])])


@pytest.mark.parametrize("layers", [0, -3])
def test_a_shallow_transformer_has_at_least_one_layer(layers):
    with pytest.raises(ValueError, match=f"layers={layers} must be at least 1"):
        shallow.Options(layers=layers)
    with pytest.raises(ValueError, match=r"n_layer=4294967296 must be at most"):
        shallow.Options(layers=2**32)


def test_a_shallow_run_that_is_resumed_is_the_same_program(tmp_path):
    from tiegym.runs.options import recorded_options

    run = made(shallow, tmp_path, layers=2)
    assert recorded_options(shallow.Options, run.folder).layers == 2
    assert recorded_options(shallow.Options, run.folder).env.n_layer == 2
    assert np.isfinite(run.summary["final"]["test_perplexity"])
