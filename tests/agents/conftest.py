"""What all tests of agents share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """For networks as small as an agent's, threads cost more than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
