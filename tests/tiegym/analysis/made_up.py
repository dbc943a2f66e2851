"""Finished runs that nobody ran, for tests of what is made of them."""

import dataclasses
from pathlib import Path

import numpy as np

from tests.tiegym.small import SMALL
from tiegym.analysis import rows as report
from tiegym.config import TieConfig
from tiegym.runs.recorder import Run

ENV = TieConfig(**SMALL)


def make_run(
    seed, loss, program="qlearning", protocol="online", n_independent=2, val_loss=None, **env
):
    """A run of one episode whose test loss is `loss` nats, the validation loss too if not given."""
    config = {
        "program": program,
        "protocol": protocol,
        "options": {"seed": seed},
        "env": dataclasses.asdict(ENV) | env,
        "corpus_sha256": "x",
        "device": "cpu",
    }
    step = {"episode": 0, "iteration": ENV.max_iters, "seconds_per_iteration": 0.1}
    final = {
        "episode": 0,
        "seed": seed,
        "iteration": ENV.max_iters,
        "test_perplexity": float(np.exp(loss)),
        "test_bits_per_byte": loss,
        "val_loss": loss if val_loss is None else val_loss,
        "n_independent": n_independent,
        "trainable_params": 10,
        "model_state_bytes": 160,
    }
    summary = {"finished": True, "final": final, "episodes": [final]}
    return Run(Path(f"{program}-seed{seed}"), config, [step], summary)


def make_row(losses, policy=None, program="qlearning", **kwargs):
    """The row of runs with these test losses, of seeds 0, 1, ..."""
    runs = [make_run(seed, loss, program, **kwargs) for seed, loss in enumerate(losses)]
    return report.make_row(policy or program, runs)
