"""Options and fixtures of the Python tests."""

import pytest

import torch


def pytest_addoption(parser):
    parser.addoption("--draws", type=int, default=2000, help="hypothesis cases to draw")
    parser.addoption("--large", action="store_true", help="run tests that need 20 GB of memory")


@pytest.fixture
def draws(request):
    """How many cases the differential test draws."""
    return request.config.getoption("--draws")


@pytest.fixture(autouse=True)
def _seed_and_threads():
    """Every test starts from the same random state, and gets its number of threads back."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
