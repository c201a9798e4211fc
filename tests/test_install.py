"""Installing the import name ``causal_conv1d``: in a process, as a distribution, beside other
packages; and plain PyTorch where the C library is missing."""

import base64
import hashlib
import inspect
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from processes import IMPORTS, python

from causal_conv1d_mps import _library, fallback, functional

pytestmark = pytest.mark.cpu_only
ROOT = Path(__file__).parent.parent


OTHER = """
__version__ = "1.6.1"
def causal_conv1d_fn(): ...
"""


@pytest.fixture
def other(tmp_path):
    """Another package of the name."""
    (tmp_path / "other/causal_conv1d").mkdir(parents=True)
    (tmp_path / "other/causal_conv1d/__init__.py").write_text(OTHER)
    return tmp_path / "other"


def test_refuses_to_shadow(installed, other):
    code = (
        "import causal_conv1d_mps as c\nc.install({})\nimport causal_conv1d as m\nprint(m.__name__)"
    )
    refused = python(code.format(""), installed, other, check=False)
    assert refused.returncode == 1
    assert re.search(
        r"RuntimeError: causal_conv1d 1\.6\.1 of .*other.* is another package\. "
        r"install\(force=True\) puts causal-conv1d-mps in its place",
        refused.stderr,
    )
    forced = python(code.format("force=True"), installed, other)
    assert forced.stdout.split() == ["causal_conv1d_mps.compat"]


def test_refuses_where_the_other_is_broken(installed, other):
    (other / "causal_conv1d/__init__.py").write_text("raise OSError('libcudart.so.12: missing')")
    code = "import causal_conv1d_mps; print(causal_conv1d_mps.compat.install.obstacle())"
    assert (
        "fails to import (OSError('libcudart.so.12: missing'))"
        in python(code, installed, other).stdout
    )


def test_refuses_to_shadow_the_extension_module(installed, other):
    shutil.rmtree(other / "causal_conv1d")
    (other / "causal_conv1d_cuda.py").write_text("def causal_conv1d_fwd(): ...\n")
    (other / "client.py").write_text("import causal_conv1d_cuda\n")
    code = (
        "import client, causal_conv1d_mps as c\nc.install({})\n"
        "import causal_conv1d_cuda as m\nprint(m.__name__, client.causal_conv1d_cuda is m)"
    )
    refused = python(code.format(""), installed, other, check=False)
    assert refused.returncode == 1
    assert re.search(r"causal_conv1d_cuda .*other.* is another package", refused.stderr)
    forced = python(code.format("force=True"), installed, other)
    assert forced.stdout.split() == ["causal_conv1d_mps.compat.causal_conv1d_cuda", "True"]


# --- The version of causal-conv1d -------------------------------------------------------------

ANSWERS = """
import importlib.metadata as metadata, sys
import causal_conv1d_mps as c
names = "causal-conv1d", "causal_conv1d", "Causal.Conv1D"
def versions():
    found = []
    for name in names:
        try:
            found.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            found.append(None)
    return found
before, finders = versions(), len(sys.meta_path)
c.install(force=FORCE)
c.install(force=FORCE)
assert len(sys.meta_path) == finders + 1
assert versions() == ["1.7.0"] * 3
assert metadata.requires("causal-conv1d") is None and not metadata.files("causal-conv1d")
assert metadata.metadata("causal-conv1d")["Name"] == "causal-conv1d"
found = metadata.packages_distributions()
assert "causal-conv1d" in found["causal_conv1d"] and "causal-conv1d" in found["causal_conv1d_cuda"]
assert not list(metadata.distributions(path=["/nowhere"]))
try:
    metadata.version("causal-conv1d-other")
except metadata.PackageNotFoundError:
    print(before)
"""


def test_version_after_install(installed, other):
    assert python("FORCE = False" + ANSWERS, installed).stdout.strip() == "[None, None, None]"
    # install(force=True) takes the place of another package's metadata as well.
    (other / "causal_conv1d-1.6.1.dist-info").mkdir()
    (other / "causal_conv1d-1.6.1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: causal-conv1d\nVersion: 1.6.1\n"
    )
    forced = python("FORCE = True" + ANSWERS, installed, other)
    assert forced.stdout.strip() == str(["1.6.1"] * 3)


def test_version_of_the_distribution(installed, tmp_path):
    """The wheel of compat/ holds metadata of causal-conv1d that no installer removes alone."""
    pytest.importorskip("scikit_build_core")
    shutil.copytree(ROOT / "compat", tmp_path / "sources")
    build = "import build_backend, sys; print(build_backend.build_wheel(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=tmp_path / "sources", check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert not list(tmp_path.glob("*.tmp"))
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        (record,) = (name for name in archive.namelist() if name.endswith("/RECORD"))
        rows = [line.split(",") for line in archive.read(record).decode().splitlines()]
        assert sorted(row[0] for row in rows) == sorted(archive.namelist())
        for name, digest, size in rows:
            if name != record:
                content = archive.read(name)
                found = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
                assert (digest, size) == ("sha256=" + found.rstrip("="), str(len(content)))
    target = tmp_path / "target"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--target", str(target), str(wheel)], check=True,
    )  # fmt: skip
    code = (
        "import importlib.metadata as m\n"
        "own, ours = m.distribution('causal-conv1d'), m.distribution('causal-conv1d-mps-compat')\n"
        "print(own.version, own.read_text('INSTALLER'), own.read_text('RECORD'), ours.version)\n"
        "print(any('causal_conv1d-1.7.0.dist-info/METADATA' in str(f) for f in ours.files))"
    )
    expected = "1.7.0 causal-conv1d-mps-compat None 1.7.0 True"
    assert python(code, installed, target).stdout.split() == expected.split()
    python(IMPORTS, installed, target)


def test_rebinds_what_found_nothing(installed, tmp_path):
    """mamba-ssm's and fla's modules that were imported first and hold None."""
    (tmp_path / "layer.py").write_text(
        "try:\n"
        "    from causal_conv1d import causal_conv1d_fn, causal_conv1d_update\n"
        "    from causal_conv1d.cpp_functions import causal_conv1d_bwd_function\n"
        "except ImportError:\n"
        "    causal_conv1d_fn = causal_conv1d_update = causal_conv1d_bwd_function = None\n"
        "causal_conv1d_fn_cuda = causal_conv1d_cuda = None\n"
        "causal_conv1d_varlen_states = 'its own'\n"
    )
    code = (
        "import layer, causal_conv1d_mps as c\n"
        "assert layer.causal_conv1d_fn is None\n"
        "print(sorted(c.install()), c.install())\n"
        "assert layer.causal_conv1d_fn is layer.causal_conv1d_fn_cuda is c.causal_conv1d_fn\n"
        "assert layer.causal_conv1d_cuda is sys.modules['causal_conv1d_cuda']\n"
        "assert layer.causal_conv1d_varlen_states == 'its own'\n"
    )
    names = ["bwd_function", "cuda", "fn", "fn_cuda", "update"]
    expected = [f"layer.causal_conv1d_{name}" for name in names]
    assert python(code, installed, tmp_path).stdout.strip() == f"{expected} []"


RUN_MODULE = (
    "import runpy\nsys.argv = ['causal_conv1d_mps', *{!r}]\n"
    "runpy.run_module('causal_conv1d_mps', run_name='__main__', alter_sys=True)"
)


def test_command_line(installed, other, tmp_path):
    check = RUN_MODULE.format(["install", "--check"])
    free = python(check, installed, check=False)  # a plain script would find nothing
    assert free.returncode == 1 and "library: loaded" in free.stdout
    assert "causal_conv1d: no package has this name" in free.stdout
    for words, error in (([], "got none"), (["nofile.py"], "nofile.py, which is no file")):
        bad = python(RUN_MODULE.format(["install", *words]), installed, check=False)
        assert bad.returncode == 2 and error in bad.stderr and not bad.stdout
    compat = python(check, installed, ROOT / "compat")
    assert re.search(r"causal_conv1d: this package, by .*compat", compat.stdout)
    taken = python(check, installed, other, check=False)
    assert taken.returncode == 1 and "is another package" in taken.stdout

    (tmp_path / "beside.py").write_text("value = 3\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, beside, causal_conv1d\nprint(causal_conv1d.__name__, sys.argv[1:], __name__)\n"
    )
    run = ["install", str(script), "--lr", "1"]
    assert python(RUN_MODULE.format(run), installed).stdout.strip() == (
        "causal_conv1d_mps.compat ['--lr', '1'] __main__"
    )
    refused = python(RUN_MODULE.format(run), installed, other, check=False)
    assert refused.returncode == 1 and "is another package" in refused.stderr
    run.insert(1, "--force")
    assert "causal_conv1d_mps.compat" in python(RUN_MODULE.format(run), installed, other).stdout


# --- Without the library ----------------------------------------------------------------------

USE = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import causal_conv1d, causal_conv1d.cpp_functions, causal_conv1d.causal_conv1d_varlen
    import causal_conv1d_mps
    causal_conv1d_mps.install()
print([str(w.message) for w in caught if "plain PyTorch" in str(w.message)])
import torch
x, weight = torch.ones(1, 2, 3, requires_grad=True), torch.ones(2, 2)
out = causal_conv1d.causal_conv1d_fn(x, weight)
out.sum().backward()
state = torch.ones(1, 2, 2)
y = causal_conv1d.causal_conv1d_update(2 * torch.ones(1, 2), state, weight)
dx, *_ = causal_conv1d.cpp_functions.causal_conv1d_bwd_function(
    x, weight, None, out, None, None, None, None, False, False)
layer = causal_conv1d_mps.CausalConv1d(2, 3)
layer.step(y.detach())
print(out[0, 0].tolist(), x.grad[0, 0].tolist(), y[0].tolist(), state[0, 0].tolist(),
      dx[0, 0].tolist(), causal_conv1d_mps.native_error is None)
import sys
from causal_conv1d_mps.__main__ import main
sys.argv[1:] = ["install", "--check"]
print("exit status", main())
"""
RESULTS = "[1.0, 2.0, 2.0] [2.0, 2.0, 1.0] [3.0, 3.0] [1.0, 2.0] [3.0, 4.0, 2.0] {}"


@pytest.mark.parametrize("harm", [None, "deleted", "cut", "text", "other library"])
def test_without_the_library(installed, tmp_path, harm):
    library = installed / "causal_conv1d_mps" / _library._LIBRARY
    if harm == "deleted":
        library.unlink()
    elif harm == "cut":
        library.write_bytes(library.read_bytes()[:50])
    elif harm == "text":
        library.write_text("not a library")
    elif harm == "other library":  # loads, but has none of the functions
        (tmp_path / "empty.c").write_text("int nothing;\n")
        subprocess.run(
            ["cc", "-shared", "-fPIC", str(tmp_path / "empty.c"), "-o", str(library)], check=True
        )
    warned, results, *check = python(USE, installed, ROOT / "compat").stdout.splitlines()
    assert results == RESULTS.format(harm is None)
    messages = eval(warned)
    assert len(messages) == (harm is not None), "one warning"
    assert all(_library._LIBRARY in message for message in messages)
    assert check[-1] == f"exit status {int(harm is not None)}"
    assert any("library: not loaded" in line for line in check) == (harm is not None)


@pytest.mark.parametrize("name", [n for n in vars(functional) if n.lower().startswith("causal")])
def test_plain_functions_have_the_same_parameters(name):
    ours, plain = getattr(functional, name), getattr(fallback, name)
    if inspect.isclass(ours):
        ours, plain = ours.apply, plain.apply
    assert inspect.signature(ours) == inspect.signature(plain)


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_plain_functions_give_the_same(activation, dtype):
    x, weight = torch.randn(2, 5, 7, dtype=dtype), torch.randn(5, 4)
    bias, states = torch.randn(5), torch.randn(2, 5, 3, dtype=dtype)
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2}.get(dtype, 1e-5)

    def everything(functions):
        pool, other = torch.ones(4, 5, 6, dtype=dtype), torch.ones(2, 5, 4, dtype=dtype)
        indices = torch.tensor([2, -1])
        cu_seqlens = torch.tensor([0, 3, 3, 7])
        return [
            functions.causal_conv1d(x, weight, bias, activation),
            functions.causal_conv1d_fwd(x, weight, None, activation is not None),
            functions.causal_conv1d_fn(
                x, weight, bias, None, states, True, None, activation=activation
            ),
            functions.causal_conv1d_fn(
                x, weight, seq_idx=torch.tensor([[0, 0, 1, 1, -1, 2, 2]] * 2)
            ),
            functions.causal_conv1d_varlen_fn(
                x[:1], weight, bias, cu_seqlens, None, True, activation
            ),
            functions.causal_conv1d_varlen_states(x[0].T, cu_seqlens, 2),
            functions.causal_conv1d_update(x, other, weight, bias, activation),
            functions.causal_conv1d_update(x[..., 0], other, weight, bias, activation),
            functions.causal_conv1d_update(x, pool, weight, bias, activation, None, indices),
            functions.causal_conv1d_update(
                x, pool[:2], weight, bias, activation, torch.tensor([3, 8])
            ),
            functions.CausalConv1dMPSFunction.apply(x, weight, bias, None, None, False, None, True),
            pool,
            other,
        ]

    torch.testing.assert_close(
        everything(fallback), everything(functional), rtol=tolerance, atol=tolerance
    )
