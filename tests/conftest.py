"""Options, markers and fixtures of the Python tests."""

import os
import shutil
import sys
import warnings
from pathlib import Path

# Its key knows an operation's name, not its formulas: a test would run those of another version.
os.environ["TORCHINDUCTOR_AUTOGRAD_CACHE"] = "0"

import hypothesis
import pytest
import torch

# Nothing timed and nothing kept from an earlier run; a failure says how to replay it.
hypothesis.settings.register_profile(
    "suite",
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser):
    parser.addoption(
        "--draws",
        type=int,
        help="hypothesis cases to draw: 2000, or 100 with --emulated or --fallback",
    )
    parser.addoption("--large", action="store_true", help="run tests that need 20 GB of memory")
    parser.addoption("--device", choices=("cpu", "mps", "cuda"), default="cpu")
    parser.addoption(
        "--emulated",
        action="store_true",
        help="CAUSAL_CONV1D_LIBRARY serves CPU tensors by the GPU kernels on an emulator",
    )
    parser.addoption(
        "--fallback",
        action="store_true",
        help="plain PyTorch serves, as where the C library cannot be loaded",
    )


def import_fallback():
    """Imports the package as where the C library cannot be loaded; its modules, which some tests
    import for comparison, can be loaded afterwards."""
    name = "causal_conv1d_mps._library"
    sys.modules[name] = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import causal_conv1d_mps
    del sys.modules[name]
    assert causal_conv1d_mps.native_error is not None


def pytest_configure(config):
    if config.getoption("--fallback"):
        import_fallback()
    from numerics import DEVICE

    config.addinivalue_line("markers", "cpu_only: is about the CPU kernels or the host alone")
    config.addinivalue_line("markers", "gpu_only: is about what differs on a GPU")
    config.addinivalue_line("markers", "cuda_only: is about what only CUDA has")
    config.addinivalue_line(
        "markers",
        "native_only: is about the C library itself, or the bits of its kernels, which those of "
        "plain PyTorch need not be",
    )
    DEVICE.name, DEVICE.emulated = config.getoption("--device"), config.getoption("--emulated")
    DEVICE.fallback = config.getoption("--fallback")
    if not DEVICE.fallback:
        from causal_conv1d_mps._library import library  # or nothing is to be tested

        emulator = library._name if DEVICE.name == "cpu" else None
        if DEVICE.emulated and os.environ.get("CAUSAL_CONV1D_LIBRARY") != emulator:
            raise pytest.UsageError("--emulated wants CAUSAL_CONV1D_LIBRARY to name the emulator")
    elif DEVICE.emulated:
        raise pytest.UsageError("--fallback and --emulated exclude each other")
    if DEVICE.name != "cpu":
        if not torch.get_device_module(DEVICE.name).is_available():
            raise pytest.UsageError(f"--device {DEVICE.name}: this machine has none")
        # Here, not in a fixture: the tests' modules make tensors as well.
        torch.set_default_device(DEVICE.name)


def pytest_report_header():
    from numerics import DEVICE

    emulated, fallback = (", GPU kernels on the emulator", ", plain PyTorch without the C library")
    return f"device: {DEVICE.name}{emulated * DEVICE.emulated}{fallback * DEVICE.fallback}"


def pytest_collection_modifyitems(config, items):
    from numerics import DEVICE

    others = {"cpu_only" if DEVICE.is_gpu else "gpu_only"}
    others |= {"cuda_only"} if DEVICE.name != "cuda" else set()
    others |= {"native_only"} if DEVICE.fallback else set()
    found: dict[bool, list] = {True: [], False: []}
    for item in items:
        found[others.isdisjoint(mark.name for mark in item.iter_markers())].append(item)
    config.hook.pytest_deselected(items=found[False])
    items[:] = found[True]


@pytest.fixture
def draws(request):
    """How many cases the differential test draws."""
    from numerics import DEVICE

    slow = DEVICE.emulated or DEVICE.fallback
    return request.config.getoption("--draws") or (100 if slow else 2000)


@pytest.fixture(autouse=True)
def _seed_and_threads():
    """Every test starts from the same random state, and gets its number of threads back."""
    threads = torch.get_num_threads()
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def installed(tmp_path):
    """A folder with a copy of the package and of its library, for a test to harm."""
    import causal_conv1d_mps
    from causal_conv1d_mps import _library

    package = Path(causal_conv1d_mps.__file__).parent
    # Other processes may write to __pycache__ meanwhile.
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(package, tmp_path / "causal_conv1d_mps", ignore=ignored)
    shutil.copy(_library.library._name, tmp_path / "causal_conv1d_mps")
    return tmp_path
