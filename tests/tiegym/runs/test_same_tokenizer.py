"""A run that was cut off goes on with the tokenizer that it began with, or not at all."""

import json

import pytest

from baselines import random_tying
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.data import tokenization
from tiegym.env import TieEnv


def tokenizer_file(path, text: str) -> str:
    made = tokenization.make_tokenizer("bpe-300", text)
    path.write_text(json.loads(made.to_json())["tokenizer"])
    return str(path)


def test_a_run_does_not_go_on_with_another_tokenizer_under_the_same_name(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tokenizer_file(tmp_path / "t.json", "one two three " * 200)
    original = (tmp_path / "t.json").read_text()
    step, steps = TieEnv.step, []

    def cut_off(env, action):
        steps.append(action)
        if len(steps) == 3:
            raise MemoryError
        return step(env, action)

    monkeypatch.setattr(TieEnv, "step", cut_off)
    options = random_tying.Options(
        runs_dir=tmp_path, name="run", quiet=True, env=TieConfig(**SMALL | {"tokenizer": path})
    )
    with pytest.raises(MemoryError):
        random_tying.train(options)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tokenizer_file(tmp_path / "t.json", "four five six " * 200)
    with pytest.raises(SystemExit) as end:
        random_tying.main(["--resume", str(tmp_path / "run"), "--quiet"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "can only go on with the tokenizer that it began with" in error
    assert len(error.strip().splitlines()) == 1
    (tmp_path / "t.json").write_text(original)
    random_tying.main(["--resume", str(tmp_path / "run"), "--quiet"])
    assert (tmp_path / "run" / "summary.json").exists()
