"""``python -m causal_conv1d_mps``: what it prints and how it exits."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from numerics import DEVICE

import causal_conv1d_mps
from causal_conv1d_mps import __main__ as command_line
from causal_conv1d_mps import _library, bench, selftest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command line in this process: (exit status, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["causal_conv1d_mps", *arguments])
        try:
            status = command_line.main()
        except SystemExit as exit:
            status = exit.code
        return status, *capsys.readouterr()

    return run


def test_info(run, monkeypatch):
    monkeypatch.setenv("CAUSAL_CONV1D_METAL_PATH", "/some/where")
    status, out, _ = run("info", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["causal_conv1d_mps"] == causal_conv1d_mps.__version__
    assert found["torch"] == torch.__version__
    assert found["library"] == _library.library._name and os.path.exists(found["library"])
    assert found["shader"] == "/some/where"
    assert found["devices"]["cpu"] == "usable" and set(found["devices"]) == set(selftest.DEVICES)
    status, out, _ = run("info")
    assert status == 0 and causal_conv1d_mps.__version__ in out and "devices: cuda" in out


@pytest.mark.cpu_only
def test_cpu_features_are_those_of_the_system(run):
    try:
        with open("/proc/cpuinfo") as file:
            flags = next(line.split() for line in file if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        pytest.skip("no /proc/cpuinfo")
    found = json.loads(run("info", "--json")[1])["CPU features"]
    candidates = {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "bf16"}
    assert set(found) & candidates == set(flags) & candidates
    assert len(found) == len(set(found))


def test_without_the_library(run, monkeypatch):
    for module in (command_line, sys.modules["causal_conv1d_mps.info"]):
        monkeypatch.setattr(module, "native_error", "needs PyTorch >= 2.10")
    status, out, _ = run("info", "--json")
    assert status == 1 and json.loads(out)["not loaded"] == "needs PyTorch >= 2.10"
    status, _, err = run("selftest")
    assert (status, err) == (2, "nothing to run: needs PyTorch >= 2.10\n")


@pytest.mark.parametrize("code", [0, 1])
@pytest.mark.parametrize("module", [selftest, bench])
def test_the_rest_is_passed_on(run, monkeypatch, module, code):
    seen = []
    monkeypatch.setattr(module, "main", lambda: seen.extend(sys.argv[1:]) or code)
    name = module.__name__.rpartition(".")[2]
    assert run(name, "--device", "cpu", "--json", "file")[0] == code
    assert seen == ["--device", "cpu", "--json", "file"]


def test_bench_without_rich(run, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("causal_conv1d_mps.bench")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    status, _, err = run("bench")
    assert status == 2 and err.endswith("pip install rich matplotlib\n")
    status, out, _ = run("bench", "--help")
    assert status == 0 and "pip install rich matplotlib" in " ".join(out.split())


@pytest.mark.cpu_only
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_help_of_an_example_needs_no_package(path):
    code = (
        "import runpy, sys; sys.modules |= dict.fromkeys(['rich', 'transformers', 'matplotlib'])\n"
        "sys.argv = [sys.argv[1], '--help']; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", code, str(path)]
    assert "usage: " in subprocess.check_output(command, text=True)


def test_help_is_plain_text(run):
    """Without the marks of reStructuredText."""
    for arguments in ([], ["info"], ["selftest"], ["bench"], ["install"]):
        status, out, _ = run(*arguments, "--help")
        assert status == 0 and "``" not in out and ":func:" not in out


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["info", "nonsense"], ["bench", "--no"]])
def test_wrong_arguments(run, arguments):
    status, _, err = run(*arguments)
    assert status == 2 and "usage: " in err


def test_version(run):
    assert run("--version")[:2] == (0, f"{causal_conv1d_mps.__version__}\n")


def test_no_arguments_give_help(run):
    status, _, err = run()
    assert status == 2 and "\n    selftest " in err


def test_selftest_runs_on_every_device_that_is_here(run, monkeypatch):
    monkeypatch.setattr(selftest, "check", lambda device: [])
    monkeypatch.setattr(selftest, "measure", lambda device: [])
    status, out, _ = run("selftest", "--json")
    devices = {result["environment"]["device"] for result in json.loads(out)}
    assert status == 0 and {"cpu", DEVICE.name} <= devices
    assert all(torch.get_device_module(device).is_available() for device in devices)
