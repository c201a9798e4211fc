"""Options and fixtures of the Python tests."""

import pytest

import torch


@pytest.fixture(autouse=True)
def _seed_and_threads():
    """Every test starts from the same random state, and gets its number of threads back."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
