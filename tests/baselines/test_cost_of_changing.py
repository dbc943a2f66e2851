"""The study of what changing ties costs: its design, its runs, its tables."""

import csv
import dataclasses

import numpy as np
import pytest

from baselines import cost_of_changing, cost_table
from baselines.cost_of_changing import (
    CHANGING,
    CONTRASTS,
    FIXED,
    PLAIN,
    VARIANTS,
    Variant,
    contrasts,
    cost,
    costs,
    env_of,
    run,
)
from baselines.policies import parse_policy
from baselines.running_options import RunningOptions
from baselines.settings import SMALL as STUDIED
from tests.tiegym.analysis.made_up import make_row
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.runs.input_errors import InputError

ENV = TieConfig(**SMALL)
SOFT, HARD = Variant("lora:1", "soft"), Variant("lora:1")


def test_the_design_crosses_what_the_study_is_about():
    assert [str(v) for v in VARIANTS] == [
        *("plain", "norms", "scales", "lora:1", "lora:4", "lora:1, soft", "lora:4, soft"),
        *("attention+mlp", "cosine", "lora:4, cosine", "lora:4, soft, cosine"),
    ]
    assert len(CONTRASTS) == 13
    assert {against for _, against in CONTRASTS if against != PLAIN} == {
        HARD,
        Variant("lora:4"),
        Variant("lora:4", decay=True),
    }
    assert len({v for v, against in CONTRASTS if against == PLAIN}) == len(VARIANTS) - 1


@pytest.mark.parametrize("name", [*CHANGING, *FIXED])
def test_all_variants_have_equal_parameters_private_ones_counted(name):
    env = dataclasses.replace(STUDIED, corpus="synthetic:40000", n_head=2)
    sizes = []
    for variant in VARIANTS:
        config = env_of(variant, name, env)
        parse_policy(name, config)
        plain = TieEnv(**{**config.__dict__, "initial_ties": "independent"})
        shape = plain._trainer.workload.shape
        n = {"tied": 1, "sequence:3": 3}.get(name, sum(1 / i for i in range(1, 7)))
        sizes.append(shape.params(0) + n * shape.block_params)
        if variant.private == "none":
            assert config.n_embd == env.n_embd
    assert np.abs(np.divide(sizes, sizes[0]) - 1).max() < 0.04


def test_the_recipe_with_decay_has_the_same_sum_of_rates():
    from tiegym.training.schedule import rate_factor

    env = dataclasses.replace(STUDIED, corpus="synthetic:40000")
    total = []
    for variant in (PLAIN, Variant(decay=True)):
        config = env_of(variant, "random", env)
        rates = [rate_factor(config, i) * config.learning_rate for i in range(config.max_iters)]
        total.append(sum(rates))
    assert total[1] == pytest.approx(total[0], rel=0.01)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(cost_of_changing, "VARIANTS", (PLAIN, HARD, SOFT))
    monkeypatch.setattr(cost_of_changing, "CONTRASTS", ((HARD, PLAIN), (SOFT, PLAIN), (SOFT, HARD)))
    monkeypatch.setattr(cost_table, "VARIANTS", (PLAIN, HARD, SOFT))
    for module in (cost_of_changing, cost_table):
        monkeypatch.setattr(module, "FIXED", ("tied",))
    monkeypatch.setattr(cost_table, "COLUMNS", (*CHANGING, "kept random", "kept qlearning", "tied"))


@pytest.mark.slow
def test_costs_are_those_over_the_ties_of_the_end_kept_from_the_start(tmp_path, few, in_process):
    options = RunningOptions(tmp_path / "runs", quiet=True)
    env = dataclasses.replace(ENV, learning_rate=1e-2, n_layer=3, max_iters=8, test_tokens=32)
    rows = run(env, [3], options)
    for policy in CHANGING:
        for variant in (PLAIN, HARD, SOFT):
            changing, kept = rows[variant, policy], rows[variant, f"kept {policy}"]
            for one, other in zip(changing.runs, kept.runs, strict=True):
                final = one.summary["final"]
                assert {tuple(step["ties"]) for step in other.steps} == {tuple(final["ties"])}
                assert final["trainable_params"] == other.summary["final"]["trainable_params"]
                assert one.config["options"]["seed"] == other.config["options"]["seed"]
            expected = [changing.losses[seed] - kept.losses[seed] for seed in (3,)]
            assert costs(rows, variant, policy) == expected
            assert cost(rows, variant, policy).value == pytest.approx(np.mean(expected))
        assert rows[PLAIN, policy].losses != rows[HARD, policy].losses
    # What never changes is run once, whatever its changes would be.
    kept = [[r.folder for r in rows[variant, "kept random"].runs] for variant in (HARD, SOFT)]
    assert kept[0] == kept[1]
    assert (SOFT, "tied") not in rows
    changing = [r.summary["final"]["ties"] for r in rows[SOFT, "random"].runs]
    assert changing == [r.summary["final"]["ties"] for r in rows[PLAIN, "random"].runs]

    text = cost_table.write(rows, tmp_path / "shown")
    assert text.count("| lora:1, soft |") == 4
    assert text.startswith(f"1 seeds, {len([*(tmp_path / 'runs').glob('*-seed3')])} runs, 0 of")
    lines = list(csv.DictReader((tmp_path / "shown" / "runs.csv").read_text().splitlines()))
    assert len(lines) == len(rows)
    for line in lines:
        folder = tmp_path / "runs" / line["folder"]
        assert folder.is_dir()
    assert (tmp_path / "shown" / "costs.png").read_bytes().startswith(b"\x89PNG")

    began = in_process.started
    again = run(env, [3], options)
    assert in_process.started == began  # nothing is run twice
    assert cost_table.tables(again) == text


def made_up(effects, few_seeds=6):
    """Rows in which a variant changes the cost of random tying by so many nats, up to noise."""
    rng = np.random.default_rng(0)
    seeds = rng.normal(size=few_seeds) * 0.1
    rows = {}
    for k, variant in enumerate(cost_of_changing.VARIANTS):
        for policy in CHANGING:
            noise = rng.normal(size=few_seeds) * 0.002
            kept = 2 + seeds + 0.1 * k
            changing = kept + 0.05 + effects.get((variant, policy), 0) + noise
            rows[variant, policy] = make_row(changing, f"{policy} {k}")
            rows[variant, f"kept {policy}"] = make_row(kept, f"kept {policy} {k}")
        if variant.tie_change == "hard":
            rows[variant, "tied"] = make_row(1 + seeds - 0.2 * k, f"tied {k}")
    for row in rows.values():
        for each in row.runs:
            each.summary["final"]["ties"] = [0, 1]
    return rows


def test_a_cost_that_is_less_gets_a_star_and_one_that_is_not_gets_none(few):
    rows = made_up({(SOFT, "random"): -0.03})
    found = {(c.variant, c.against): c for c in contrasts(rows, "random")}
    for pair in ((SOFT, PLAIN), (SOFT, HARD)):
        assert found[pair].difference.value == pytest.approx(-0.03, abs=0.004)
        assert found[pair].difference.high < 0
        assert found[pair].p_holm < 0.05
    assert found[HARD, PLAIN].p_holm > 0.05
    assert all(c.p_holm > 0.05 for c in contrasts(rows, "qlearning"))
    text = cost_table.tables(rows)
    of_random, of_agent, soft, losses = (
        part for part in text.split("\n\n") if part.startswith("|")
    )
    (line,) = [x for x in of_random.splitlines() if x.startswith("| lora:1, soft")]
    assert line.endswith("]* |")
    assert "*" not in of_agent
    assert soft.splitlines()[2].count("*") == 1
    # Losses of what never changes, and how much less than plain's: 1.0 and 0.2 less for each.
    assert "(-0.2000*)" in losses
    assert losses.splitlines()[-1].endswith("|  |")


def test_kept_ties_must_be_those_that_a_run_ended_with():
    changing, kept = make_row([1.0]), make_row([1.0])
    changing.runs[0].summary["final"]["ties"] = [0, 1]
    kept.runs[0].summary["final"]["ties"] = [0, 0]
    with pytest.raises(InputError, match="kept other ties than"):
        cost_of_changing._check_ties(changing, kept)
