"""A run that was cut off goes on with the inputs that it began with, or not at all."""

import json

import pytest

from baselines import random_tying
from tests.tiegym.small import SMALL
from tests.tiegym.test_pretrained_models import save
from tiegym.config import TieConfig
from tiegym.data import tokenization
from tiegym.env import TieEnv
from tiegym.runs.folder import read_config


def cut_off(folder, monkeypatch, **changes):
    """Begins a run that ends in its third step."""
    step, steps = TieEnv.step, []

    def cut_off(env, action):
        steps.append(action)
        if len(steps) == 3:
            raise MemoryError
        return step(env, action)

    env = TieConfig(**SMALL | changes)
    options = random_tying.Options(runs_dir=folder, name="run", quiet=True, env=env)
    with monkeypatch.context() as patched:
        patched.setattr(TieEnv, "step", cut_off)
        with pytest.raises(MemoryError):
            random_tying.train(options)
    return folder / "run"


def resume(run):
    random_tying.main(["--resume", str(run), "--quiet"])


def refusal(run, capsys):
    """The one line that says why a run can't go on."""
    capsys.readouterr()  # what was drawn before
    with pytest.raises(SystemExit) as end:
        resume(run)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def change(model, folder):
    with_other_values = {name: value + 1 for name, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=with_other_values)


def test_a_run_does_not_go_on_with_other_weights_under_the_same_name(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "model"
    model = save(folder, "gpt2")
    run = cut_off(tmp_path, monkeypatch, model=f"hf:{folder}")
    began = read_config(run)
    assert len(began["weights_sha256"]) == 64
    assert began["versions"]["transformers"] is not None
    change(model, folder)
    assert "can only go on with the weights that it began with" in refusal(run, capsys)
    model.save_pretrained(folder)
    resume(run)
    assert (run / "summary.json").exists()


def write_tokenizer(path, text):
    made = tokenization.make_tokenizer("bpe-300", text)
    path.write_text(json.loads(made.to_json())["tokenizer"])


def test_a_run_does_not_go_on_with_another_tokenizer_under_the_same_name(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "t.json"
    write_tokenizer(path, "one two three " * 200)
    original = path.read_text()
    run = cut_off(tmp_path, monkeypatch, tokenizer=str(path))
    write_tokenizer(path, "four five six " * 200)
    assert "can only go on with the tokenizer that it began with" in refusal(run, capsys)
    path.write_text(original)
    resume(run)
    assert (run / "summary.json").exists()
