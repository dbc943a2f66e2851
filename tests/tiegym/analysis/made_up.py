"""Finished runs that nobody ran, for tests of what is made of them."""

import dataclasses
from pathlib import Path

import numpy as np

from tests.tiegym.small import SMALL
from tiegym.analysis.rows import make_row as row_of
from tiegym.config import TieConfig
from tiegym.runs.folder import Run
from tiegym.runs.json_files import dumps, write_json

ENV = TieConfig(**SMALL)


def make_run(
    seed, loss, program="qlearning", protocol="online", n_independent=2, val_loss=None, **env
):
    """A run of one episode whose test loss is `loss` nats, the validation loss too if not given.

    A layer has 10 parameters, and nothing else has any.
    """
    config = {
        "format": 1,
        "program": program,
        "protocol": protocol,
        "options": {"seed": seed},
        "env": dataclasses.asdict(ENV) | env,
        "corpus_sha256": "x",
        "device": "cpu",
    }
    n_layer = config["env"]["n_layer"]
    ties = [k if k < n_independent else 0 for k in range(n_layer)]
    step = {"episode": 0, "iteration": ENV.max_iters, "seconds_per_iteration": 0.1}
    step |= {"action": 0, "perplexity": float(np.exp(loss)), "ties": ties}
    final = {
        "episode": 0,
        "seed": seed,
        "iteration": ENV.max_iters,
        "test_perplexity": float(np.exp(loss)),
        "test_bits_per_byte": loss,
        "val_loss": loss if val_loss is None else val_loss,
        "n_independent": n_independent,
        "trainable_params": 10 * n_independent,
        "model_state_bytes": 160,
    }
    summary = {"format": 1, "finished": True, "final": final, "episodes": [final]}
    return Run(Path(f"{program}-seed{seed}"), config, [step], summary)


def make_row(losses, policy=None, program="qlearning", **kwargs):
    """The row of runs with these test losses, of seeds 0, 1, ..."""
    runs = [make_run(seed, loss, program, **kwargs) for seed, loss in enumerate(losses)]
    return row_of(policy or program, runs)


def write_run(run, folder):
    """Writes a made-up run as a run folder; returns the folder."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", run.config)
    (folder / "steps.jsonl").write_text("".join(f"{dumps(step)}\n" for step in run.steps))
    write_json(folder / "summary.json", run.summary)
    return folder
