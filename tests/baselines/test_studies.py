"""The studies that compare policies: what they hold, and in which setting."""

import json

import pytest

from baselines import results
from baselines.policies import parse_policy
from baselines.results import Options
from baselines.settings import MODELS
from baselines.studies import studies
from tests.tiegym.small import SMALL
from tiegym import ties
from tiegym.config import TieConfig

ENV = TieConfig(**SMALL)


def sizes_of_patterns(policies):
    patterns = [p.options for p in policies if p.module == "baselines.fixed"]
    return {ties.n_independent(ties.parse(p.pattern, p.env.n_layer)) for p in patterns}


def test_every_study_holds_its_yardsticks_and_its_policies_are_known(tmp_path):
    options = Options(env=ENV, wikitext=tmp_path)
    for study in studies(4):
        env = results.env_of(study, options)
        policies = [parse_policy(text, env) for text in study.policies]
        assert len(set(study.policies)) == len(study.policies)
        assert {policy.options.env.n_layer for policy in policies} == {study.n_layer}
        assert {"random", "random-fixed"} <= set(study.policies)
        half = study.n_layer // 2
        assert {f"shallow:{m}" for m in (1, 2, half)} <= set(study.policies)
        if study.model == "gpt":
            assert "random-raw" in study.policies
            assert sizes_of_patterns(policies) == set(range(1, study.n_layer + 1))


def test_the_studies_of_models_are_one_for_each_architecture():
    chosen = results.chosen(Options(study=("models",), env=ENV))
    found = {s.model: results.env_of(s, Options(env=ENV)) for s in chosen}
    assert list(found) == ["gpt2", "llama", "bert", "vit"]
    tasks = [env.task for env in found.values()]
    assert tasks[:2] == ["language-modeling"] * 2
    assert tasks[2:] == ["masked-language-modeling", "image-classification"]
    assert len({study.setting for study in studies(4)}) == 4 + 4  # of our own, and these


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
