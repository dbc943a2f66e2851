"""What all tests share."""

import os

# One thread for sizes as small as those of tests: more cost what they save, and more than that
# where tests run side by side. Before PyTorch is loaded, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Whatever a test sets, the next one has a single thread again."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
