"""The studies that compare policies: what they hold, and in which setting."""

import json

import pytest

from baselines import results
from baselines.policies import parse_policy
from baselines.results import Options
from baselines.settings import MODELS
from baselines.studies import studies
from tiegym import ties
from tiegym.analysis.references import UNMASKED


def sizes_of_patterns(policies):
    patterns = [p.options for p in policies if p.module == "baselines.fixed"]
    return {ties.n_independent(ties.parse(p.pattern, p.env.n_layer)) for p in patterns}


def test_every_study_of_policies_holds_its_yardsticks(tmp_path):
    options = Options(wikitext=tmp_path)
    for study in studies():
        env = results.env_of(study, options)
        policies = [parse_policy(text, env) for text in study.policies]
        assert len(set(study.policies)) == len(study.policies)
        assert {policy.options.env.n_layer for policy in policies} == {env.n_layer}
        heads = {text.split(" --")[0] for text in study.policies}
        wanted = (1, 2, env.n_layer // 2) if env.n_layer < 24 else (2, 3, 4)
        assert {f"shallow:{m}" for m in wanted} <= set(study.policies)
        assert {"independent", "tied"} <= heads
        if study.group != "depth":
            assert "random-fixed" in heads
            assert "random" in heads or env.n_layer == 24
        if heads & {*UNMASKED}:
            assert "random-raw" in heads
        if study.model == "gpt" and study.group != "depth":
            assert sizes_of_patterns(policies) >= {1, 2, 3, 4, env.n_layer}


def test_who_chooses_a_sharing_of_a_size_stands_beside_draws_of_that_size():
    for study in studies():
        chosen = {text for text in study.policies if text.startswith("surrogate ")}
        assert {text.replace("surrogate", "random-fixed") for text in chosen} <= {*study.policies}


def test_rates_that_are_taken_over_are_of_a_study_that_can_hold_the_same_policies():
    by_name = {study.name: study for study in studies()}
    taking = {study.name: study.rates_of for study in studies() if study.rates_of is not None}
    assert taking == {"stdlib-24": "stdlib-12"}
    for name, source in taking.items():
        assert not by_name[name].rates
        assert by_name[source].rates
        assert set(by_name[name].policies) <= set(by_name[source].policies)  # no run of tuning more


def test_studies_that_take_rates_over_need_no_text_but_their_own():
    by_name = {study.name: study for study in studies()}
    for study in studies():
        for other in (study.rates_of, study.transferred):
            assert other is None or by_name[other].corpus in ("stdlib", study.corpus)


def test_studies_of_one_setting_share_their_runs(tmp_path):
    options = Options(wikitext=tmp_path, runs_dir=tmp_path)
    by_name = {study.name: study for study in studies()}
    assert len(by_name) == len(studies())
    depth, main = by_name["depth-wikitext-6"], by_name["wikitext-6"]
    assert depth.setting == main.setting
    assert depth.rates == main.rates
    assert results.env_of(depth, options) == results.env_of(main, options)
    assert set(depth.policies) <= set(main.policies)
    settings = {}
    for study in studies():
        settings.setdefault(study.setting, set()).add(results.env_of(study, options))
    assert {len(envs) for envs in settings.values()} == {1}


def test_the_studies_of_models_are_one_for_each_architecture():
    chosen = results.chosen(Options(study=("models",)))
    found = {s.model: results.env_of(s, Options()) for s in chosen}
    assert list(found) == ["gpt2", "llama", "bert", "vit"]
    tasks = [env.task for env in found.values()]
    assert tasks[:2] == ["language-modeling"] * 2
    assert tasks[2:] == ["masked-language-modeling", "image-classification"]


def test_each_architecture_has_a_setting_of_its_own_and_equally_many_decisions():
    chosen = results.chosen(Options(study=("models",)))
    found = {s.model: results.env_of(s, Options()) for s in chosen}
    assert {env.steps_per_episode for env in found.values()} == {60}
    for model, env in found.items():
        assert {name: getattr(env, name) for name in MODELS[model]} == MODELS[model]
        deviation = json.loads(env.model_config)["initializer_range"]
        assert deviation == pytest.approx(0.02 * (768 / env.n_embd) ** 0.5)


def test_an_agent_of_the_studies_of_models_has_a_pattern_of_its_size_and_its_null_model():
    for study in results.chosen(Options(study=("models",))):
        policies = [parse_policy(text, results.env_of(study, Options())) for text in study.policies]
        assert sizes_of_patterns(policies) == {1, 2, 3, 6}  # where random tying and agents end
        agents = {p.module for p in policies if p.module.startswith("agents.")}
        assert agents == {"agents.qlearning", "agents.maskable_ppo"}  # of which both mask
