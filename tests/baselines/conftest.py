"""Workers without processes, for tests of what a comparison makes of its runs."""

from concurrent.futures import Future

import pytest

from baselines import running, workers


class Open:
    """The end of a pipe that nobody has closed."""

    def poll(self):
        return False


class InProcess:
    """Runs each task at once, here."""

    started = 0

    def __init__(self, count, threads):
        type(self).started += 1
        workers._threads = threads

    def submit(self, task):
        future = Future()
        future.set_result(workers._run(task))
        return future

    def stop(self):
        pass


@pytest.fixture
def in_process(monkeypatch):
    """Comparisons run in this process; the class counts how many began to run something."""
    monkeypatch.setattr(running, "Workers", InProcess)
    monkeypatch.setattr(workers, "_stop", Open(), raising=False)
    monkeypatch.setattr(workers, "_threads", 1, raising=False)
    monkeypatch.setattr(running.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(InProcess, "started", 0)
    import torch

    before = torch.get_num_threads()
    yield InProcess
    torch.set_num_threads(before)
