"""Evolution: the search on a known cost, the cost of a tie vector, the program."""

import dataclasses
import json

import gymnasium
import numpy as np
import pytest

import tiegym  # noqa: F401 registers the environments
from agents.evolution import Options, TrainingRuns, main, train
from agents.regularised_evolution import Candidate, evolve, mutate
from baselines import fixed
from tests.tiegym.playing import MIXED
from tests.tiegym.small import SMALL
from tiegym import ties as tie_vectors
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run
from tiegym.training.trainer import Trainer

ENV = TieConfig(**SMALL)
BEST = tie_vectors.roots(np.array([0, 1, 0, 1, 4, 4, 1, 7]))


def distance(ties):
    """Layers that share with the wrong one; zero for a single partition of 4,140."""
    return float(np.count_nonzero(tie_vectors.roots(ties) != BEST[: len(ties)]))


def history(cost, seed=0, n_layer=8, **changes):
    """The best candidate, and all of them in order."""
    candidates: list[Candidate] = []
    options = Options(**{"evaluations": 300} | changes)
    best = evolve(cost, n_layer, options, np.random.default_rng(seed), candidates.append)
    return best, candidates


def test_evolution_finds_the_best_where_random_search_does_not():
    found = [history(distance, seed)[0] for seed in range(5)]
    assert [best.cost for best in found] == [0] * 5
    assert all(tie_vectors.roots(np.array(b.ties)).tolist() == BEST.tolist() for b in found)
    # A population of the whole search is random search.
    random = [history(distance, seed, population=300)[0].cost for seed in range(5)]
    assert sum(cost == 0 for cost in random) <= 1


def test_a_search_is_fixed_by_its_seed():
    assert history(distance, 1) == history(distance, 1)
    assert history(distance, 1)[1] != history(distance, 2)[1]


def test_a_child_differs_from_a_living_parent_in_one_layer():
    _, candidates = history(distance, population=5, sample=2, evaluations=60)
    assert [c.number for c in candidates] == list(range(len(candidates)))
    assert all(c.parent is None for c in candidates[:5])
    for child in candidates[5:]:
        assert child.number - 5 <= child.parent < child.number
        parent = candidates[child.parent]
        assert sum(a != b for a, b in zip(child.ties, parent.ties, strict=True)) == 1


def test_the_oldest_dies_even_if_it_is_the_best():
    _, candidates = history(distance, population=4, sample=4, evaluations=60)
    for child in candidates[4:]:
        alive = candidates[child.number - 4 : child.number]
        assert candidates[child.parent].cost == min(c.cost for c in alive)
    best = min(candidates, key=lambda c: c.cost)
    assert all(c.parent != best.number for c in candidates[best.number + 5 :])


def test_equal_sharings_are_judged_once():
    calls = []
    _, candidates = history(lambda t: calls.append(t) or distance(t), n_layer=5, evaluations=30)
    roots = [tuple(tie_vectors.roots(ties)) for ties in calls]
    assert len(roots) == len(set(roots)) == 30
    assert sum(not c.known for c in candidates) == 30
    assert any(c.known for c in candidates)
    assert all(c.cost == distance(np.array(c.ties)) for c in candidates)


def test_a_search_ends_when_all_sharings_are_known():
    calls = []
    best, _ = history(lambda t: calls.append(1) or 1.0, n_layer=2)
    assert len(calls) == 2
    assert best.ties == (0, 0)  # as good with one layer as with two


def test_a_mutation_is_any_change_of_one_layer():
    ties, rng = np.array([0, 1, 0, 2]), np.random.default_rng(0)
    drawn = {tuple(mutate(ties, rng).tolist()) for _ in range(500)}
    assert drawn == {
        *((0, 0, 0, 2), (0, 1, 1, 2), (0, 1, 2, 2)),
        *((0, 1, 0, 0), (0, 1, 0, 1), (0, 1, 0, 3)),
    }
    assert ties.tolist() == [0, 1, 0, 2]


def test_layers_of_two_kinds_never_share_in_any_candidate():
    kinds = ["a", "b", "a", "a", "b", "a", "b", "b"]
    drawn = []
    evolve(
        lambda ties: drawn.append(ties.tolist()) or distance(ties),
        8,
        Options(evaluations=50),
        np.random.default_rng(0),
        kinds=kinds,
    )
    assert len(drawn) == 50
    for ties in drawn:
        assert all(kinds[target] == kinds[layer] for layer, target in enumerate(ties))
    assert len({ties[5] for ties in drawn}) == 4  # every layer of its kind, and itself


@pytest.mark.parametrize("tie_parts", ["block", "attention+mlp"])
def test_a_model_with_layers_of_two_kinds_is_searched(tmp_path, tie_parts):
    pytest.importorskip("transformers")
    env = TieConfig(
        **SMALL | {"iters_per_step": 1, "max_iters": 2},
        model="gemma3_text",
        model_config=json.dumps(MIXED),
        tie_parts=tie_parts,
    )
    options = make_options(tmp_path, budget=1, evaluations=4)
    run = read_run(train(dataclasses.replace(options, env=env)))
    lines = (run.folder / "search.jsonl").read_text().splitlines()
    candidates = [json.loads(line)["ties"] for line in lines]
    assert len(candidates) >= 4
    assert all(ties[1] == 1 and ties[2] in (0, 2) and ties[3] in (1, 3) for ties in candidates)
    assert run.config["env"]["initial_ties"] == run.config["found"]["ties"]


def test_one_layer_has_nothing_to_search(tmp_path):
    with pytest.raises(ValueError, match=r"env.n_layer=1 must be at least 2"):
        dataclasses.replace(make_options(tmp_path), env=dataclasses.replace(ENV, n_layer=1))


def runs(config=ENV, budget=4, seed=1):
    return TrainingRuns(config, budget, seed, lambda n: None)


def test_the_cost_depends_on_the_roots_and_on_nothing_before():
    first = runs()
    chain = first(np.array([0, 0, 1, 2]))
    other = first(np.array([0, 1, 0, 1]))
    assert first(np.array([0, 0, 0, 0])) == chain != other
    assert runs()(np.array([0, 1, 0, 1])) == other
    assert runs(seed=2)(np.array([0, 1, 0, 1])) != other
    assert first.iterations == 3 * 4


def test_the_cost_is_the_validation_loss_of_the_environments_own_run():
    env = gymnasium.make("TieEnv-v0", **SMALL | {"initial_ties": "0,1,0,1", "action": "joint"})
    env.reset(seed=0)
    cost = runs(ENV, ENV.max_iters, env.unwrapped._episode.seed)(np.array([0, 1, 0, 1]))
    for _ in range(ENV.steps_per_episode):
        info = env.step(np.array([1, 0, 1]))[4]
    assert cost == info["val_loss"]


def test_a_price_of_layers_is_part_of_the_cost():
    ties = np.array([0, 1, 0, 1])
    priced = dataclasses.replace(ENV, reward="ppl_params", param_cost=8.0)
    assert runs(priced)(ties) == pytest.approx(runs()(ties) + 8 * 2 / 4)


def test_a_run_that_diverges_costs_the_divergence_loss_and_stops():
    diverging = dataclasses.replace(ENV, learning_rate=1e6, grad_clip=0.0)
    judged = runs(diverging, budget=400)
    assert judged(np.array([0, 1, 2, 3])) == ENV.divergence_loss
    assert 0 < judged.iterations < 400


def make_options(folder, **changes):
    defaults = {"population": 3, "sample": 2, "evaluations": 5, "budget": 5}
    return Options(runs_dir=folder, quiet=True, env=ENV, **defaults | changes)


def test_the_program_trains_under_the_best_vector_with_a_fresh_seed(tmp_path, monkeypatch):
    seeds, tests = [], []
    reset, test_loss = Trainer.reset, Trainer.test_loss
    monkeypatch.setattr(
        Trainer, "reset", lambda self, s, t: seeds.append((s, t)) or reset(self, s, t)
    )
    monkeypatch.setattr(Trainer, "test_loss", lambda *a: tests.append(1) or test_loss(*a))
    run = read_run(train(make_options(tmp_path, seed=4)))
    assert len(tests) == 1  # the test split chooses nothing
    *search, (seed, ties) = seeds
    assert len(search) == 5
    assert len({s for s, _ in search} | {seed}) == 2
    text = (run.folder / "search.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert run.config["found"] == min(lines, key=lambda c: (c["cost"], c["n_independent"]))
    assert run.config["found"]["ties"] == ties.tolist() == run.config["env"]["initial_ties"]
    assert [row["ties"] for row in run.steps] == [ties.tolist()] * ENV.steps_per_episode
    assert run.summary["extra_iterations"] == 5 * 5
    assert run.config["protocol"] == "pretrained"
    assert [path.name for path in tmp_path.iterdir()] == [run.folder.name]

    pattern = ",".join(map(str, ties))
    again = fixed.Options(seed=4, runs_dir=tmp_path, quiet=True, env=ENV, pattern=pattern)
    final = read_run(fixed.train(again)).summary["final"]
    for key in ("val_loss", "test_perplexity", "model_state_bytes"):
        assert run.summary["final"][key] == final[key]


class Killed(BaseException):
    """As abrupt as KeyboardInterrupt, which would end pytest where a test doesn't expect it."""


def test_a_search_that_dies_goes_on_and_pays_for_each_candidate_once(tmp_path, monkeypatch):
    cost, paid = TrainingRuns.__call__, []

    def dies(self, ties):
        if self.iterations >= 10:
            raise Killed
        paid.append(ties.tolist())
        return cost(self, ties)

    monkeypatch.setattr(TrainingRuns, "__call__", dies)
    options = make_options(tmp_path, name="mine")
    with pytest.raises(Killed):
        train(options)
    lines = (tmp_path / "mine" / "search.jsonl").read_text().splitlines()
    assert sum(not json.loads(line)["known"] for line in lines) == len(paid) == 2
    options = dataclasses.replace(options, resume=tmp_path / "mine")
    with pytest.raises(Killed):
        train(options)
    run = read_run(train(options))
    assert len(paid) == len({tuple(ties) for ties in paid}) == 5
    monkeypatch.setattr(TrainingRuns, "__call__", cost)
    whole = read_run(train(make_options(tmp_path / "whole")))
    assert run.config["found"] == whole.config["found"]
    assert run.summary["extra_iterations"] == whole.summary["extra_iterations"] == 5 * 5
    assert [row["val_loss"] for row in run.steps] == [row["val_loss"] for row in whole.steps]


def test_the_budget_is_a_whole_run_unless_given(tmp_path):
    run = read_run(train(make_options(tmp_path, budget=None, evaluations=2)))
    assert run.summary["extra_iterations"] == 2 * ENV.max_iters


def test_the_command_line_explains_itself_and_refuses_nonsense(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "--evaluations" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["--sample", "9"])
    assert "sample=9 is drawn from the population of 8" in capsys.readouterr().err
    for name in ("population", "sample", "evaluations", "budget"):
        with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
            Options(**{name: 0})
    with pytest.raises(ValueError, match=r"budget=5 must be at least env.warmup_iters=8"):
        Options(budget=5, env=dataclasses.replace(ENV, warmup_iters=8))


def test_a_text_that_cannot_be_read_ends_the_program_in_one_line(tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(b"\x1f\x8b" + b"x" * 99)
    with pytest.raises(SystemExit) as end:
        main(["--quiet", f"--env.corpus={tmp_path / 'a.txt'}", f"--runs-dir={tmp_path / 'runs'}"])
    assert end.value.code == 2
    assert "is compressed (gzip): unpack it" in capsys.readouterr().err
