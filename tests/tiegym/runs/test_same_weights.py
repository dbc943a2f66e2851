"""A run that was cut off goes on with the pretrained weights that it began with, or not at all."""

import pytest

from baselines import random_tying
from tests.tiegym.small import SMALL
from tests.tiegym.test_pretrained_models import save
from tiegym.config import TieConfig
from tiegym.env import TieEnv
from tiegym.runs.folder import read_config


def change(model, folder):
    with_other_values = {name: value + 1 for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=with_other_values)


def test_a_run_does_not_go_on_with_other_weights_under_the_same_name(tmp_path, monkeypatch, capsys):
    model, folder = save(tmp_path / "model", "gpt2"), tmp_path / "model"
    step, steps = TieEnv.step, []

    def cut_off(env, action):
        steps.append(action)
        if len(steps) == 3:
            raise MemoryError
        return step(env, action)

    monkeypatch.setattr(TieEnv, "step", cut_off)
    env = TieConfig(**SMALL | {"model": f"hf:{folder}"})
    options = random_tying.Options(runs_dir=tmp_path, name="run", quiet=True, env=env)
    with pytest.raises(MemoryError):
        random_tying.train(options)
    monkeypatch.undo()
    began = read_config(tmp_path / "run")
    assert len(began["weights_sha256"]) == 64
    assert began["versions"]["transformers"] is not None
    change(model, folder)
    capsys.readouterr()  # what the library drew while it wrote
    with pytest.raises(SystemExit) as end:
        random_tying.main(["--resume", str(tmp_path / "run"), "--quiet"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "can only go on with the weights that it began with" in error
    assert len(error.strip().splitlines()) == 1
    model.save_pretrained(folder)
    random_tying.main(["--resume", str(tmp_path / "run"), "--quiet"])
    assert (tmp_path / "run" / "summary.json").exists()
