import dataclasses

import pytest

from benchmarks import depth
from tests.tiegym.small import SMALL
from tiegym import TieEnv
from tiegym.config import TieConfig

ENV = dataclasses.replace(TieConfig(**SMALL), n_layer=3, max_iters=4, tie_grad="sum")


def test_depths_and_sharings_are_held_beside_the_untied_transformer(tmp_path, capsys):
    options = depth.Options(
        ("shallow:1", "independent", "tied"), seeds=2, out=tmp_path / "runs.jsonl", env=ENV
    )
    depth.run(options)
    out = capsys.readouterr().out
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")][2:]
    assert {row[0].strip("| ") for row in rows} == {"shallow:1", "independent", "tied"}
    assert [row[3].strip(" |") == "" for row in rows if "independent" in row[0]] == [True]
    found = depth.measure(options)
    env = TieEnv(**{**dataclasses.asdict(ENV), "n_layer": 1})
    assert found["shallow:1"][1] == depth.final_losses(env, 1)["test_loss"]


def test_a_stopped_measurement_goes_on_and_another_setting_begins_anew(tmp_path, monkeypatch):
    options = depth.Options(("tied",), seeds=2, out=tmp_path / "runs.jsonl", env=ENV)
    depth.measure(options)
    monkeypatch.setattr(depth, "final_losses", lambda env, seed: pytest.fail("ran again"))
    depth.measure(options)
    monkeypatch.setattr(
        depth, "final_losses", lambda env, seed: {"val_loss": 1.0, "test_loss": 2.0 + seed}
    )
    other = dataclasses.replace(options, env=dataclasses.replace(ENV, learning_rate=0.5))
    assert depth.measure(other) == {"tied": [2.0, 3.0]}


def test_the_setting_of_the_page_is_one_that_the_environment_takes():
    assert depth.config_of("shallow:2", depth.DEEP).n_layer == 2
    assert depth.config_of("cycle:2", depth.DEEP).initial_ties == "cycle:2"
