"""Kills programs at random moments, resumes them, and compares the end with undisturbed runs.

    python -m benchmarks.kills --kills 50

Every program runs once undisturbed. Then the same run is killed (SIGKILL) after a random time and
resumed, again and again, until it has ended or had its share of the kills. What must be the same
bit for bit: every action, loss, reward and perplexity, the transformer's weights at the end, and
the agent's weights and optimiser. Exits with 1 where something differs.

Each life of a program is a process of its own, forked from a server that has imported everything:
what is killed is the run, not the start of Python.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

import tiegym
from agents.saved_agents import AGENT_FILE
from tiegym.env import TieEnv
from tiegym.runs.commands import read_command_line
from tiegym.runs.input_errors import at_least
from tiegym.runs.journal import remove_leftovers
from tiegym.runs.json_files import whole_lines
from tiegym.runs.options import parse_options
from tiegym.runs.recorder import is_finished, read_run
from tiegym.transformer.tensor_file import read_tensors

PROGRAMS = (
    "baselines.random_tying",
    "agents.dqn --learning-starts 5",
    "agents.qlearning",
    "agents.ppo --env.action joint --n-steps 10 --pretrain-runs 1",
    "agents.maskable_ppo --n-steps 10",
    "agents.recurrent_ppo --n-steps 10",
    "agents.lookahead --candidates 2 --env.max-iters 80",
    "agents.evolution --population 4 --sample 2 --evaluations 8 --budget 20 --env.max-iters 80",
    "agents.surrogate --size 2",
)
PROCESSES = multiprocessing.get_context("forkserver")
SMALL = (
    "--quiet --checkpoint-every-steps 7 --env.n-layer 4 --env.n-embd 32 --env.block-size 32 "
    "--env.max-iters 120 --env.corpus synthetic:100000 --env.device cpu --env.test-tokens 500"
)


@dataclass(frozen=True)
class Options:
    """Kill and resume programs, and compare."""

    kills: int = 50
    """Kills in all, shared by the programs."""
    seed: int = 0
    """Of the moments."""

    def __post_init__(self) -> None:
        """Checks the options."""
        at_least(self, 0, "kills")


def live(program: str, folder: Path, resume: bool) -> None:
    """One life of a run: all of a process. Its environment leaves the weights when it closes."""
    module, *own = program.split()
    where = (
        [f"--resume={folder}"]
        if resume
        else [f"--runs-dir={folder.parent}", f"--name={folder.name}"]
    )
    close = TieEnv.close

    def leave_weights(env: TieEnv) -> None:
        env.export(folder / "weights.safetensors")
        close(env)

    TieEnv.close = leave_weights  # type: ignore[method-assign, assignment]
    found = importlib.import_module(module)
    found.train(parse_options(found.Options, [*SMALL.split(), *own, *where]))


def facts(folder: Path) -> dict[str, Any]:
    """What two runs must agree in."""
    run = read_run(folder)
    assert run.summary is not None
    measured = ("seconds", "peak_")
    rows = [{k: v for k, v in r.items() if not k.startswith(measured)} for r in run.steps]
    final = {k: v for k, v in run.summary["final"].items() if not k.startswith(measured)}
    return {
        "steps": rows,
        "final": final,
        "extra iterations": run.summary.get("extra_iterations"),
        "transformer": _transformer(folder / "weights.safetensors"),
        "agent": _agent(folder / "agent.zip"),
        "saved agent": _saved_agent(folder / AGENT_FILE),
        "files": sorted(path.name for path in folder.iterdir() if ".tfevents." not in path.name),
    }


def _transformer(path: Path) -> str:
    """A hash of all weights."""
    digest = hashlib.sha256()
    for name, weights in tiegym.load_model(path).state_dict().items():
        digest.update(name.encode() + weights.numpy().tobytes())
    return digest.hexdigest()


def _agent(path: Path) -> str | None:
    """A hash of all tensors of an SB3 agent and its optimiser."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    with zipfile.ZipFile(path) as archive:
        for name in ("policy.pth", "policy.optimizer.pth"):
            content = torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            digest.update(json.dumps(_lists(content), sort_keys=True).encode())
    return digest.hexdigest()


def _saved_agent(path: Path) -> str | None:
    """A hash of the tensors that agents are read from."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(read_tensors(path, "agent")[0].items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def _lists(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): _lists(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_lists(entry) for entry in value]
    return value


def disturbed(
    program: str, folder: Path, kills: int, longest: float, rng: random.Random
) -> Counter[str]:
    """Runs a program to its end with so many kills; returns where they came."""
    where: Counter[str] = Counter()
    while True:
        if is_finished(folder):
            if where.total() == kills:
                return where
            shutil.rmtree(folder)  # too fast for this many: once more from the beginning
        resume = (folder / "config.json").exists()
        if not resume and folder.exists():
            shutil.rmtree(folder)
        process = PROCESSES.Process(target=live, args=(program, folder, resume))
        process.start()
        process.join(rng.uniform(0, longest) if where.total() < kills else None)
        if process.is_alive():
            process.kill()
            process.join()
            where[_moment(folder)] += 1
        elif process.exitcode:
            raise RuntimeError(f"{program} in {folder} failed")


def _moment(folder: Path) -> str:
    if not (folder / "config.json").exists():
        return "before the run folder"
    if is_finished(folder):
        return "after the end"
    if list(folder.glob(".checkpoint-*.tmp")):
        return "while a checkpoint was written"
    calls = len(whole_lines(folder / "calls.jsonl"))
    return "before the first call" if not calls else "between checkpoints"


def main() -> None:
    """Prints where kills came and what was compared."""
    options = read_command_line(Options, "benchmarks.kills", __doc__)
    rng = random.Random(options.seed)
    os.environ["OMP_NUM_THREADS"] = "1"
    PROCESSES.set_forkserver_preload(["benchmarks.kills", *(p.split()[0] for p in PROGRAMS)])
    different = []
    where: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as temporary:
        runs = Path(temporary)
        for k, program in enumerate(tqdm(PROGRAMS, desc="benchmarks.kills", disable=None)):
            share = options.kills // len(PROGRAMS) + (k < options.kills % len(PROGRAMS))
            name = program.split()[0].split(".")[1]
            disturbed(program, runs / f"{name}-whole", 0, 0, rng)
            begin = time.perf_counter()
            shutil.rmtree(runs / f"{name}-whole")
            disturbed(program, runs / f"{name}-whole", 0, 0, rng)
            longest = time.perf_counter() - begin
            came = disturbed(program, runs / f"{name}-killed", share, longest, rng)
            where += came
            remove_leftovers(runs / f"{name}-killed")  # as --resume of a finished run does
            whole, killed = facts(runs / f"{name}-whole"), facts(runs / f"{name}-killed")
            wrong = [key for key in whole if whole[key] != killed[key]]
            different += wrong
            tqdm.write(
                f"{name:<14} {came.total():3} kills, {len(whole['steps'])} steps: "
                + (f"DIFFERENT: {', '.join(wrong)}" if wrong else "the same bits")
            )
    print(f"kills: {where.total()} ({', '.join(f'{n} {m}' for m, n in where.items())})")
    print(f"PyTorch {torch.__version__}, CPU, 1 thread")
    sys.exit(bool(different))


if __name__ == "__main__":
    # By its full name: the server imports it by that, and its processes look for `live` there.
    from benchmarks.kills import main as program

    program()
