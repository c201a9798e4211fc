"""What needs no download of tools/apple_evidence.py: the format, and the list of functions."""

import shutil
import struct
import sys
from pathlib import Path

import pytest

pytest.importorskip("lief")
pytest.importorskip("ziglang")
pytest.importorskip("zopfli")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import apple_evidence


def tag(name, data):
    return name + struct.pack("<H", len(data)) + data


def metallib(kernels):
    """A container of what the tool reads of one."""
    entries, code = b"", b""
    for name, bitcode in kernels.items():
        tags = tag(b"NAME", name.encode() + b"\0") + tag(b"MDSZ", struct.pack("<Q", len(bitcode)))
        tags += tag(b"OFFT", struct.pack("<3Q", 0, 0, len(code))) + b"ENDT"
        entries, code = entries + struct.pack("<I", len(tags) + 4) + tags, code + bitcode
    entries = struct.pack("<I", len(kernels)) + entries
    size = 88 + len(entries) + len(code)
    sections = [88, len(entries), 0, 0, 0, 0, 88 + len(entries), len(code)]
    return b"MTLB" + bytes(12) + struct.pack("<9Q", size, *sections) + entries + code


def test_containers_are_found_in_a_library():
    first, second = {"a": b"code of a", "b": b"fma"}, {"c": b"a fma, c"}
    data = b"MTLB is a word" + metallib(first) + bytes(50) + metallib(second)
    found = apple_evidence.metallibs(data)
    assert [library.kernels for library in found] == [first, second]
    assert [library.using("fma") for library in found] == [1, 1]
    assert [library.using("fma", "c") for library in found] == [0, 1]


@pytest.mark.skipif(not shutil.which("c++filt"), reason="needs c++filt")
@pytest.mark.parametrize("variant", apple_evidence.VARIANTS)
def test_every_function_that_the_shader_calls_is_one_to_look_for(variant):
    text = apple_evidence.compiled(variant.split())
    names = apple_evidence.externals(text)
    assert {"fma(float, float, float)", "precise::exp(float)"} <= names
    assert names <= set(apple_evidence.COUNTERPARTS)
    widest = {("load", "<4 x i32>", "1", "16"), ("store", "<4 x i32>", "1", "16")}
    assert ("VECTOR=8" in variant) == (widest <= apple_evidence.accesses(text))


def test_a_multiply_add_that_is_not_fused():
    text = "%3 = tail call float @llvm.fmuladd.f32(float %1, float %2, float %0)\n"
    assert "@llvm.fma.f32(" in apple_evidence.lowered(text, "k", "float", True)
    unfused = apple_evidence.lowered(text, "k", "float", False)
    assert "%product.3 = fmul float %1, %2\n  %3 = fadd float %product.3, %0\n" in unfused
