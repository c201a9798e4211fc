"""Options, markers and fixtures of the Python tests."""

import os

import pytest
import torch
from numerics import DEVICE

from causal_conv1d_mps._library import library


def pytest_addoption(parser):
    parser.addoption("--draws", type=int, help="hypothesis cases to draw: 2000, or 100 if emulated")
    parser.addoption("--large", action="store_true", help="run tests that need 20 GB of memory")
    parser.addoption("--device", choices=("cpu", "mps", "cuda"), default="cpu")
    parser.addoption(
        "--emulated",
        action="store_true",
        help="CAUSAL_CONV1D_LIBRARY serves CPU tensors by the GPU kernels on an emulator",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "cpu_only: is about the CPU kernels or the host alone")
    config.addinivalue_line("markers", "gpu_only: is about what differs on a GPU")
    config.addinivalue_line("markers", "cuda_only: is about what only CUDA has")
    DEVICE.name, DEVICE.emulated = config.getoption("--device"), config.getoption("--emulated")
    if DEVICE.emulated and (
        DEVICE.name != "cpu" or library._name != os.environ.get("CAUSAL_CONV1D_LIBRARY")
    ):
        raise pytest.UsageError("--emulated wants CAUSAL_CONV1D_LIBRARY to name the emulator")
    if DEVICE.name != "cpu":
        if not torch.get_device_module(DEVICE.name).is_available():
            raise pytest.UsageError(f"--device {DEVICE.name}: this machine has none")
        # Here, not in a fixture: the tests' modules make tensors as well.
        torch.set_default_device(DEVICE.name)


def pytest_report_header():
    return f"device: {DEVICE.name}{', GPU kernels on the emulator' * DEVICE.emulated}"


def pytest_collection_modifyitems(config, items):
    others = {"cpu_only" if DEVICE.is_gpu else "gpu_only"}
    others |= {"cuda_only"} if DEVICE.name != "cuda" else set()
    found: dict[bool, list] = {True: [], False: []}
    for item in items:
        found[others.isdisjoint(mark.name for mark in item.iter_markers())].append(item)
    config.hook.pytest_deselected(items=found[False])
    items[:] = found[True]


@pytest.fixture
def draws(request):
    """How many cases the differential test draws."""
    return request.config.getoption("--draws") or (100 if DEVICE.emulated else 2000)


@pytest.fixture(autouse=True)
def _seed_and_threads():
    """Every test starts from the same random state, and gets its number of threads back."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
