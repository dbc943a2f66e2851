"""What all tests share."""

from concurrent.futures import Executor, Future

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """For sizes as small as those of tests, threads cost more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class InProcess(Executor):
    """Does each task at once, in this process: a worker of a real pool first imports PyTorch."""

    def __init__(self, *arguments, **options):
        """Takes what `ProcessPoolExecutor` takes, and needs none of it."""

    def submit(self, task, /, *arguments, **options):
        future = Future()
        try:
            future.set_result(task(*arguments, **options))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture
def in_process(monkeypatch):
    """Comparisons run in this process, for tests of what they run and not of how."""
    monkeypatch.setattr("baselines.arms.ProcessPoolExecutor", InProcess)
