"""What a step reports of its own cost."""

import time

import pytest
import torch

from tests.tiegym.small import SMALL
from tiegym import TieEnv
from tiegym.training.step_stats import Stopwatch, peak_memory

CPU = torch.device("cpu")


def test_a_cpus_peak_is_named_after_the_process_and_holds_what_was_allocated():
    before = peak_memory(CPU)
    size = 2 * before["peak_process_bytes"]
    assert list(before) == ["peak_process_bytes"]
    held = torch.ones(size, dtype=torch.uint8)
    assert peak_memory(CPU)["peak_process_bytes"] >= held.nbytes


def test_a_stopwatch_measures_between_its_marks():
    watch = Stopwatch(CPU)
    time.sleep(0.02)
    watch.mark()
    watch.mark()
    assert watch.seconds(0) >= 0.02 > watch.seconds(1)


def test_every_step_reports_seconds_and_peak_memory():
    env = TieEnv(**SMALL)
    env.reset(seed=0)
    assert env.step_stats == {}
    for _ in range(2):
        env.step(1)
        stats = env.step_stats
        assert stats["seconds_training"] > 0
        assert stats["seconds_evaluation"] > 0
        assert stats["seconds_per_iteration"] == pytest.approx(stats["seconds_training"] / 2)
        assert stats["peak_process_bytes"] > 2**20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpus_peak_is_its_allocators_and_starts_anew_each_step():
    env = TieEnv(**SMALL | {"device": "cuda"})
    env.reset(seed=0)
    env.step(1)
    before = env.step_stats["peak_allocated_bytes"]  # with the matrix library's workspace
    held = torch.ones(2**26, dtype=torch.uint8, device="cuda")
    env.step(1)
    assert env.step_stats["peak_allocated_bytes"] >= before + held.nbytes / 2
    del held
    env.step(1)
    assert env.step_stats["peak_allocated_bytes"] < before + 2**25
