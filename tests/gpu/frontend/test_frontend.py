"""The shader is Metal, as far as can be told without Apple's compiler; the check discriminates."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from shader import GPU, shader_text

sys.path.insert(0, str(Path(__file__).parent))
from check import check

HERE = Path(__file__).parent
TORCH = Path(torch.__file__).parent / "include"
BAD = sorted((HERE / "bad").glob("*.metal"))
GOOD = sorted((HERE / "good").glob("*.metal"))

PREAMBLES = [
    "",
    "VALUE=half WEIGHT=half BIAS=half VECTOR=8",
    "VALUE=bfloat WEIGHT=bfloat BIAS=bfloat VECTOR=8",
    "VALUE=bfloat WEIGHT=float BIAS=float VECTOR=4 WIDTH=2",
    "VALUE=float WEIGHT=half BIAS=bfloat VECTOR=4 WIDTH=8",
    "VALUE=half WEIGHT=bfloat BIAS=float VECTOR=8 WIDTH=3 INDEX=long",
    "VALUE=float VECTOR=4 ID=long SEQ_IDX=1 SILU=0 ROWS=8",
    "VALUE=bfloat WEIGHT=float VECTOR=8 PACKED=1 INITIAL=1 FINAL=1",
    "VALUE=half SEQ_IDX=1 INITIAL=1 FINAL=1 HAS_BIAS=0 WIDTH=5",
    "VALUE=float PACKED=1 INDEX=long ID=long WIDTH=7",
    "VALUE=half WEIGHT=float BIAS=bfloat VECTOR=8 WIDTH=9 SEQ_IDX=1 INITIAL=1 FINAL=1",
    "VALUE=float WEIGHT=half PACKED=1 INDEX=long ID=long WIDTH=256",
    "VALUE=bfloat RING=1 INDEXED=1 ID=long ROW=long WIDTH=6",
    "VALUE=half WEIGHT=half RING=1 SILU=0 HAS_BIAS=0",
    "VALUE=bfloat WEIGHT=bfloat BIAS=bfloat WIDTH=1 INITIAL=1 FINAL=1",
    "VALUE=float WIDTH=17 SEQ_IDX=1",
]


def messages(faults):
    return "\n".join(f"{file}:{line}: {reason}" for (file, line), reason in faults)


def kernels():
    """The values of KERNEL, by which a variant asks for one kernel alone."""
    return re.findall(r"define (CC1D_\w+) \d+$", (GPU / "args.h").read_text().split("*/")[2], re.M)


@pytest.fixture(scope="module")
def shader(tmp_path_factory):
    """The file of the joined text."""
    path = tmp_path_factory.mktemp("shader") / "causal_conv1d.metal"
    path.write_text(shader_text())
    return path


@pytest.mark.parametrize("preamble", PREAMBLES)
def test_shader(shader, preamble):
    faults = check(shader, preamble.split(), [GPU])
    assert not faults, messages(faults)


@pytest.mark.parametrize("kernel", kernels())
def test_each_kernel_alone(shader, kernel):
    faults = check(shader, [f"KERNEL={kernel}", "VALUE=bfloat", "VECTOR=8", "INDEX=long"], [GPU])
    assert not faults, messages(faults)


@pytest.mark.parametrize(
    ("good", "bad", "expected"),
    [
        ("device const VALUE *x;", "const VALUE *x;", "pointer type must have explicit"),
        ("thread float &rest", "float &rest", "reference type must have explicit"),
        ("precise::exp(", "expf(", "undeclared identifier 'expf'"),
        ("threadgroup_barrier(mem_flags::mem_threadgroup)", "__syncthreads()", "undeclared"),
        ("threadgroup float slices", "static float slices", "cannot be static"),
        ("return VALUE(0.0f)", "return 0.0f", "implicit conversion"),
        ("&name [[buffer(prefix##name)]]", "&name [[buffer(prefix##dim)]]", "cannot reserve"),
        ("uint3 position", "int3 position", "is not valid for attribute"),
    ],
)
def test_planted(good, bad, expected, tmp_path):
    """A fault in the shader itself is found."""
    text = shader_text()
    assert good in text
    path = tmp_path / "planted.metal"
    path.write_text(text.replace(good, bad))
    faults = check(path, ["VALUE=bfloat"], [GPU])
    assert any(expected in fault.reason for fault in faults), messages(faults)


def test_command(shader):
    """The way by the command line, and that definitions reach the shader."""
    command = [sys.executable, HERE / "check.py", shader, "-I", GPU]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""
    refused = subprocess.run([*command, "-D", "VALUE=double"], capture_output=True, text=True)
    assert refused.returncode == 1
    assert re.match(r".*causal_conv1d\.metal:\d+: 'double': ", refused.stdout)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad(path):
    """A shader with one fault is refused: for the reason that it names, on one line alone."""
    expected = path.read_text().splitlines()[1].removeprefix("// expect: ")
    faults = check(path)
    assert any(expected in fault.reason for fault in faults), messages(faults)
    assert len({fault.where for fault in faults}) == 1, messages(faults)
    assert faults[0].where[0] == str(path)


def test_number_of_bad_shaders():
    assert len(BAD) >= 70


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good(path):
    faults = check(path)
    assert not faults, messages(faults)


PYTORCH = "common expm1f igamma indexing random reduction_utils special_math utils".split()


@pytest.mark.parametrize("header", PYTORCH)
def test_headers_of_pytorch(header, tmp_path):
    """Metal that Apple's compiler takes on every Mac with PyTorch."""
    path = tmp_path / "header.metal"
    path.write_text(f"#include <c10/metal/{header}.h>\n")
    faults = check(path, [], [TORCH])
    assert not faults, messages(faults)


def test_headers_of_pytorch_that_need_another(tmp_path):
    """error.h lacks an include; atomic.h has unions and function pointers, which we refuse."""
    path = tmp_path / "header.metal"
    path.write_text("#include <metal_stdlib>\n#include <c10/metal/error.h>\n")
    assert not check(path, [], [TORCH])
    path.write_text("#include <metal_stdlib>\n#include <c10/metal/atomic.h>\n")
    reasons = {fault.reason.split(":")[0] for fault in check(path, [], [TORCH])}
    assert reasons == {"'union'", "no function pointers"}


def test_functions_of_pytorch(tmp_path):
    """Templates are only checked when they are used."""
    path = tmp_path / "use.metal"
    path.write_text((HERE / "pytorch.metal").read_text())
    faults = check(path, [], [TORCH])
    assert not faults, messages(faults)
