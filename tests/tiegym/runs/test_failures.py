"""What a run does when the machine gives out, and what becomes of its folder."""

import json
import resource
import subprocess
import sys

import pytest
import torch

import tiegym
from baselines import random_tying
from tests.runs import facts
from tests.tiegym.small import SMALL
from tiegym.config import TieConfig
from tiegym.runs.recorder import read_run
from tiegym.training.out_of_memory import OutOfMemory
from tiegym.training.trainer import Trainer
from tiegym.transformer.tensor_file import read_tensors, write_tensors

ENV = TieConfig(**SMALL)


@pytest.mark.slow
def test_a_full_disk_is_one_clear_line_and_every_row_before_it_stays(tmp_path):
    # A real process, since the limit is a process's: it takes seconds to begin.
    arguments = [f"--env.{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    arguments += ["--env.max-iters=4000", "--quiet", "--name=run", f"--runs-dir={tmp_path}"]
    limit = 20_000

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = subprocess.run(
        [sys.executable, "-m", "baselines.random_tying", *arguments],
        preexec_fn=limited,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 1
    assert process.stderr.startswith("no room to write the run")
    assert "--resume" in process.stderr
    assert "Traceback" not in process.stderr
    for name in ("calls.jsonl", "steps.jsonl"):
        text = (tmp_path / "run" / name).read_text()
        assert text.endswith("\n")
        assert [json.loads(line) for line in text.splitlines()]
    steps = read_run(tmp_path / "run").steps
    assert [row["step"] for row in steps] == list(range(1, len(steps) + 1))
    assert len(steps) > 10


def test_a_checkpoint_that_does_not_fit_is_the_systems_own_error(tmp_path):
    code = (
        "import resource, torch; from tiegym.transformer.tensor_file import write_tensors;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        f"write_tensors({str(tmp_path / 'c')!r}, 'checkpoint', {{'x': torch.zeros(9999)}}, 1)"
    )
    write_tensors(tmp_path / "c", "checkpoint", {"x": torch.ones(3)}, 0)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "OSError: [Errno 27]" in process.stderr
    assert read_tensors(tmp_path / "c", "checkpoint")[1] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_weights_that_do_not_fit_name_the_arguments_to_lower():
    env = tiegym.TieEnv(**SMALL | {"n_embd": 4_000_000})  # tens of terabytes
    env.reset(seed=0)
    with pytest.raises(OutOfMemory, match=r"lower batch_size=2 or .*n_embd=4000000 .*loss_chunk"):
        env.step(1)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_leaves_a_run_that_can_be_read_and_resumed(
    tmp_path, monkeypatch, capsys, error
):
    whole = random_tying.Options(runs_dir=tmp_path / "whole", quiet=True, env=ENV)
    expected = facts(random_tying.train(whole))
    train, calls = Trainer.train, []

    def fails(self, iterations, start, *others):
        calls.append(1)
        if len(calls) == 4:
            raise error
        return train(self, iterations, start, *others)

    monkeypatch.setattr(Trainer, "train", fails)
    small = [f"--env.{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    arguments = ["--quiet", "--name=run", f"--runs-dir={tmp_path}", *small]
    with pytest.raises(SystemExit, match="1"):
        random_tying.main([*arguments, "--checkpoint-every-steps=2"])
    assert "out of memory: lower batch_size=2" in capsys.readouterr().err
    assert len(read_run(tmp_path / "run").steps) == 3
    random_tying.main(["--resume", str(tmp_path / "run")])
    assert facts(tmp_path / "run") == expected


def test_an_error_that_is_none_of_memory_passes_unchanged(monkeypatch):
    def fails(self, iterations, start, *others):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Trainer, "train", fails)
    env = tiegym.TieEnv(**SMALL)
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        env.step(1)


def test_every_truncation_and_every_flipped_byte_of_a_file_is_an_error(tmp_path):
    path = tmp_path / "model.safetensors"
    env = tiegym.TieEnv(**SMALL | {"n_embd": 4})
    env.reset(seed=0)
    env.export(path)
    content = path.read_bytes()
    places = [*range(0, 40), *range(40, len(content), 97), len(content) - 1]
    for place in places:
        path.write_bytes(content[:place])
        with pytest.raises(ValueError, match="model"):
            tiegym.load_model(path)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match="model"):
            tiegym.load_model(path)
    path.write_bytes(content)
    tiegym.load_model(path)
