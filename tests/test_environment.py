"""Environment variables: what a user sets is never ignored in silence."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from causal_conv1d_mps import _library

pytestmark = [pytest.mark.cpu_only, pytest.mark.native_only]
IMPORT = [sys.executable, "-c", "import causal_conv1d_mps"]


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("CAUSAL_CONV1D_LIBRARY", "/missing", "ImportError"),
        ("CAUSAL_CONV1D_HIDE", "avx512", "ValueError"),
    ],
)
def test_an_import_fails_and_plain_pytorch_does_not_serve(name, value, error):
    run = subprocess.run(IMPORT, env={**os.environ, name: value}, text=True, capture_output=True)
    assert run.returncode == 1 and f"{error}: {name}: {value} " in run.stderr.splitlines()[-1]


def test_a_second_copy_in_the_process(tmp_path):
    first = tmp_path / Path(_library.library._name).name
    shutil.copy(_library.library._name, first)
    load = f"""import ctypes, torch
assert ctypes.CDLL({str(first)!r}).causal_conv1d_torch_register(None) == 0
import causal_conv1d_mps"""
    environment = {**os.environ, "CAUSAL_CONV1D_LIBRARY": _library.library._name}
    run = subprocess.run(
        [sys.executable, "-c", load], env=environment, text=True, capture_output=True
    )
    expected = "ImportError: another copy of the library has registered causal_conv1d_mps"
    assert run.returncode == 1 and expected in run.stderr, run.stderr


def test_a_library_that_cannot_be_loaded(monkeypatch, tmp_path):
    text, other = tmp_path / "text.so", tmp_path / "other.so"
    text.write_text("no library\n")
    (tmp_path / "other.c").write_text("int nothing;\n")
    command = ["cc", "-shared", "-fPIC", str(tmp_path / "other.c"), "-o", str(other)]
    subprocess.run(command, check=True)
    for path in (tmp_path / "missing.so", text, other, tmp_path):
        monkeypatch.setenv("CAUSAL_CONV1D_LIBRARY", str(path))
        with pytest.raises(ImportError, match=f"^CAUSAL_CONV1D_LIBRARY: {path} cannot be used: "):
            _library._load()
    for unset in (_library.library._name, ""):
        monkeypatch.setenv("CAUSAL_CONV1D_LIBRARY", unset)
        assert _library._load()._name == _library.library._name


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("HIDE", "avx512", "avx512 is no CPU feature, expected some of avx2 fma "),
        ("HIDE", "avx2, AVX512F", "AVX512F is no CPU feature"),
        ("HIDE", "avx2;fma", "avx2;fma is no CPU feature"),
        ("HIDE", "x" * 999, "xxxx"),
        ("HUGE_PAGES", "off", "expected 0 or 1, got off"),
        ("HUGE_PAGES", "2", "expected 0 or 1, got 2"),
    ],
)
def test_unknown_values(monkeypatch, name, value, text):
    monkeypatch.setenv(f"CAUSAL_CONV1D_{name}", value)
    with pytest.raises(ValueError, match=f"^CAUSAL_CONV1D_{name}: {text}"):
        _library._load()


@pytest.mark.parametrize(
    ("name", "value"),
    [("HIDE", "avx512f"), ("HIDE", "neon,, bf16 ,f16c"), ("HIDE", "")]
    + [("HUGE_PAGES", value) for value in ("0", "1", "")],
)
def test_known_values(monkeypatch, name, value):
    monkeypatch.setenv(f"CAUSAL_CONV1D_{name}", value)
    _library._load()


def test_a_cache_that_cannot_be_made(monkeypatch, tmp_path):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.chdir(tmp_path)
    for folder in (file, file / "below", "file", "file/below"):
        monkeypatch.setenv("CAUSAL_CONV1D_CACHE", str(folder))
        with pytest.warns(RuntimeWarning, match=f"^CAUSAL_CONV1D_CACHE: {folder} is no folder"):
            _library._warn_of_a_useless_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for folder in (tmp_path, tmp_path / "new" / "below", "new", ".", "0", ""):
            monkeypatch.setenv("CAUSAL_CONV1D_CACHE", str(folder))
            _library._warn_of_a_useless_cache()
        monkeypatch.delenv("CAUSAL_CONV1D_CACHE")
        _library._warn_of_a_useless_cache()
    assert not Path("new").exists()
