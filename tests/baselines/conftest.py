"""Workers without processes, for tests of what a comparison makes of its runs; and a Ray."""

import pytest

from baselines import running, running_options
from baselines.run_task import run_task


class InProcess:
    """Runs each task at once, here."""

    started = 0

    def __init__(self, count, threads):
        type(self).started += 1
        self.place = f"{count} at a time"
        self.threads = threads
        self.done = []

    def submit(self, task):
        self.done.append((task, run_task(task, self.threads)))

    def ended(self, seconds):
        done, self.done = self.done, []
        return done

    def stop(self):
        pass


@pytest.fixture(scope="session")
def ray():
    """A Ray of two cores on this machine, which is started once."""
    from baselines.ray_cluster import connect

    return connect("local", cores=2)


@pytest.fixture
def in_process(monkeypatch):
    """Comparisons run in this process; the class counts how many began to run something."""
    monkeypatch.setattr(running, "Workers", InProcess)
    monkeypatch.setattr(running_options.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(InProcess, "started", 0)
    import torch

    before = torch.get_num_threads()
    yield InProcess
    torch.set_num_threads(before)
