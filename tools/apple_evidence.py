"""What Apple's compiler made of PyTorch's kernels, held beside our shader, without a Mac.

    CAUSAL_CONV1D_LIBRARY=build/gpu/libcausal_conv1d_emulated.so \
      python tools/apple_evidence.py --page docs/metal.md

PyTorch's macOS wheel holds thousands of kernels as LLVM's bitcode.  Its depthwise conv1d is taken
from there, run on this CPU, and compared with ours to the bit; and each operation that our shader
is compiled to is searched for among all of them.  Needs llvm-dis-14 and llvm-as-14, which read the
format.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from check_macos import pip
from rich.console import Console
from wheels import ROOT, environment, zig

sys.path.insert(0, str(ROOT / "tests/gpu"))
sys.path.insert(0, str(ROOT / "tests/gpu/frontend"))
from lint import Linter
from shader import GPU, shader_text

import check
from causal_conv1d_mps import causal_conv1d

TORCH = "2.15.0"
DYLIB = "torch/lib/libtorch_cpu.dylib"
TYPES = {"float": torch.float32, "half": torch.float16, "bfloat": torch.bfloat16}


# ---- Apple's containers of bitcode


class Metallib(NamedTuple):
    """The kernels of one container: their bitcode by name."""

    kernels: dict[str, bytes]

    def using(self, *words: str) -> int:
        """How many of the kernels hold all of the words."""
        found = [word.encode() for word in words]
        return sum(all(word in code for word in found) for code in self.kernels.values())


def metallibs(data: bytes) -> list[Metallib]:
    """Those inside of a library: magic, sizes, a list of functions, and their bitcode."""
    found, at = [], data.find(b"MTLB")
    while at >= 0:
        (size,) = struct.unpack_from("<Q", data, at + 16)
        if 88 < size <= len(data) - at:
            listed, _, _, _, _, _, code, _ = struct.unpack_from("<8Q", data, at + 24)
            kernels, entry = {}, at + listed + 4
            for _ in range(struct.unpack_from("<I", data, at + listed)[0]):
                tags, tag = {}, entry + 4
                while data[tag : tag + 4] != b"ENDT":
                    (length,) = struct.unpack_from("<H", data, tag + 4)
                    tags[data[tag : tag + 4]] = data[tag + 6 : tag + 6 + length]
                    tag += 6 + length
                name = tags[b"NAME"].rstrip(b"\0").decode()
                begin = at + code + struct.unpack("<3Q", tags[b"OFFT"])[2]
                kernels[name] = data[begin : begin + struct.unpack("<Q", tags[b"MDSZ"])[0]]
                entry += struct.unpack_from("<I", data, entry)[0]
            found.append(Metallib(kernels))
        at = data.find(b"MTLB", at + 4)
    return found


def pytorch() -> list[Metallib]:
    """Those of the pinned macOS wheel of PyTorch, which is kept in build/."""
    place = ROOT / "build/torch-wheels" / TORCH
    if not list(place.glob("*.whl")):
        pip(
            "download", "-q", "--no-cache-dir", "--no-deps", "--only-binary=:all:",
            "--platform=macosx_14_0_arm64", "--python-version=3.12", f"-d{place}",
            f"torch=={TORCH}",
        )  # fmt: skip
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return metallibs(archive.read(DYLIB))


def disassembled(code: bytes) -> str:
    """Bitcode as LLVM's text."""
    command = ["llvm-dis-14", "-", "-o", "-"]
    return subprocess.run(command, input=code, stdout=subprocess.PIPE, check=True).stdout.decode()


# ---- PyTorch's depthwise conv1d on this CPU

# Its parameters are a struct of 17 ints and a bool.
PARAMETERS = (
    "N C_in C_out H W outH outW kH kW sH sW padH padW dH dW C_in_per_group C_out_per_group".split()
)
RUN = """
typedef struct { int n[17]; char has_bias; } Parameters;
void at(const void *, const void *, void *, const Parameters *, const void *, int, int, int);
void run(const void *x, const void *w, void *out, const Parameters *p, const void *b,
         const int *grid)
{
    for (int k = 0; k < grid[2]; k++)
        for (int j = 0; j < grid[1]; j++)
            for (int i = 0; i < grid[0]; i++) at(x, w, out, p, b, i, j, k);
}
"""


def lowered(text: str, kernel: str, kind: str, fused: bool) -> str:
    """A kernel for this CPU, with one address space, the multiply-add fused or not, and a function
    that calls it."""
    text = re.sub(r" addrspace\(\d\)", "", text)
    text = re.sub(r"^target .*\n", "", text, flags=re.M)
    if fused:
        text = text.replace("@llvm.fmuladd.f32", "@llvm.fma.f32")
    else:
        text = re.sub(
            r"(%\w+) = tail call float @llvm\.fmuladd\.f32"
            r"\(float (%\w+), float (%\w+), float (%\w+)\)",
            r"%product.\1 = fmul float \2, \3\n  \1 = fadd float %product.\1, \4",
            text,
        ).replace("%product.%", "%product.")
    pointers = f"{kind}* %x, {kind}* %w, {kind}* %out, %struct.Conv2DParams* %p, {kind}* %b"
    return (
        text
        + f"""
define void @at({pointers}, i32 %i, i32 %j, i32 %k) {{
  %one = insertelement <3 x i32> undef, i32 %i, i32 0
  %two = insertelement <3 x i32> %one, i32 %j, i32 1
  %three = insertelement <3 x i32> %two, i32 %k, i32 2
  call void @{kernel}({pointers}, <3 x i32> %three)
  ret void
}}
"""
    )


class Kernel:
    """A depthwise conv1d of PyTorch, as Apple's compiler made it."""

    def __init__(self, code: bytes, name: str, fused: bool = True):
        self.last = name.split("_")[2] == "nlc"
        kind = name.split("_")[3]
        with tempfile.TemporaryDirectory() as folder:
            bitcode, run, library = (f"{folder}/{file}" for file in ("k.bc", "run.c", "k.so"))
            text = lowered(disassembled(code), name, kind, fused)
            subprocess.run(["llvm-as-14", "-", "-o", bitcode], input=text.encode(), check=True)
            Path(run).write_text(RUN)
            options = ["-O2", "-shared", "-fPIC", "-w", "-ffp-contract=off", "-fno-sanitize=all"]
            command = zig("cc", *options, run, bitcode, "-o", library)
            subprocess.run(command, env=environment(), check=True)
            self.library = ctypes.CDLL(library)

    def __call__(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """The causal convolution of x (B, D, T); `nlc` writes it as (B, T, D)."""
        (batch, dim, seqlen), width = x.shape, weight.shape[1]
        sizes = dict.fromkeys(PARAMETERS, 1)
        sizes |= {"N": batch, "C_in": dim, "C_out": dim, "W": seqlen, "outW": seqlen}
        sizes |= {"kW": width, "padW": width - 1, "padH": 0}
        raw = struct.pack("<17i?", *sizes.values(), bias is not None)
        rows = x.contiguous()
        out = torch.empty_like(x.mT if self.last else x, memory_format=torch.contiguous_format)
        given = [t.data_ptr() for t in (rows, weight, out)] + [raw]
        given.append((weight if bias is None else bias).data_ptr())
        pointers = [p if isinstance(p, bytes) else ctypes.c_void_p(p) for p in given]
        self.library.run(*pointers, (ctypes.c_int * 3)((seqlen + 7) // 8, dim, batch))
        return out.mT if self.last else out


def compared(kernel: Kernel, dtype: torch.dtype) -> tuple[int, int]:
    """How many results were compared with ours, and how many differ in their bits."""
    count = different = 0
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    for width in (1, 2, 3, 4, 5, 8, 9):
        for seqlen in (1, 7, 8, 63, 130, 513):
            x, weight = normal(2, 24, seqlen), normal(24, width)
            same = x.mT.contiguous().mT if kernel.last else x
            for bias in (None, normal(24)):
                theirs, ours = kernel(x, weight, bias), causal_conv1d(same, weight, bias)
                differ = theirs.contiguous().view(bits) != ours.contiguous().view(bits)
                count, different = count + ours.numel(), different + int(differ.sum())
    return count, different


# ---- the operations of our shader

# The variants whose operations are looked up.
VARIANTS = [
    "VALUE=float VECTOR=4",
    "VALUE=half WEIGHT=half BIAS=half VECTOR=8",
    "VALUE=bfloat WEIGHT=bfloat BIAS=bfloat VECTOR=8",
    "VALUE=bfloat WEIGHT=float VECTOR=8 SEQ_IDX=1 INITIAL=1 FINAL=1",
    "VALUE=half PACKED=1 INITIAL=1 FINAL=1 INDEX=long ID=long",
    "VALUE=float RING=1 INDEXED=1 ROW=long WIDTH=9",
]
# What our shader calls, by what Apple's compiler has in its place; of a division it makes an
# instruction, not a call.
COUNTERPARTS = {
    "fma(float, float, float)": "air.fma.f32",
    "precise::exp(float)": "air.exp.f32",
    "fast::divide(float, float)": None,
    "min(int, int)": "air.min.s.i32",
    "max(int, int)": "air.max.s.i32",
    "min(long, long)": "air.min.s.i64",
    "max(long, long)": "air.max.s.i64",
    "simd_shuffle(float, unsigned short)": "air.simd_shuffle.f32",
    "threadgroup_barrier(mem_flags)": "air.wg.barrier",
    "simdgroup_barrier(mem_flags)": "air.simdgroup.barrier",
    "half2(float2)": "air.convert.f.v2f16.f.v2f32",
    "float2(half2)": "air.convert.f.v2f32.f.v2f16",
    "bfloat2(float2)": "air.convert.f.v2bf16.f.v2f32",
    "float2(bfloat2)": "air.convert.f.v2f32.f.v2bf16",
}
# How clang writes the types, and the conversion of vectors that the stand-in declares.
SPELLINGS = [
    (r"_Float16 __vector\(2\)", "half2"),
    (r"__bf16 __vector\(2\)", "bfloat2"),
    (r"float __vector\(2\)", "float2"),
    (r"(\w+) frontend::maker<false>::make<\w+, \w+>", r"\1"),
    (r"metal::", ""),
]


def compiled(definitions: list[str]) -> str:
    """A variant of the shader as LLVM's text, by the stand-in for Apple's compiler."""
    text = check.preprocessed(shader_text(), "shader.metal", definitions, [GPU]).stdout
    result = check.compiled(text, Linter(text), "-O2", "-emit-llvm", "-w", "-o", "-")
    if result.returncode:
        raise RuntimeError(result.stderr)
    return result.stdout


def externals(text: str) -> set[str]:
    """The functions that LLVM's text leaves to the library, as Metal writes them."""
    mangled = re.findall(r"^declare .*@(_Z\w+)\(", text, re.M)
    command = ["c++filt", *mangled]
    names = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    for pattern, name in SPELLINGS:
        names = re.sub(pattern, name, names)
    return set(names.splitlines())


TYPE = r"(<\d+ x \w+>|\w+)"
POINTER = r"[^\n,]+ addrspace\((\d)\)\*? %[^\n,]+, align (\d+)"
ACCESS = re.compile(rf"\b(load) {TYPE}, {POINTER}|\b(store) {TYPE} [^\n,]+, {POINTER}")


def accesses(text: str) -> set[tuple[str, ...]]:
    """Of the loads and stores of device memory, constants and threadgroup memory: which it is, the
    type, the number of the address space, and of vectors the alignment."""
    found = (match[:4] if match[0] else match[4:] for match in ACCESS.findall(text))
    return {(*access[:3], access[3] if "<" in access[1] else "") for access in found}


def tables(libraries: list[Metallib], step: int = 10) -> list[str]:
    """Of each function that a variant calls, and each kind of access: what Apple's compiler made of
    it, and in how many kernels.  Accesses are looked for in every ``step``-th kernel."""
    texts = [compiled(variant.split()) for variant in VARIANTS]
    used = Counter(name for text in texts for name in externals(text))
    lines = [
        "| our shader calls | variants | Apple's compiler has | kernels |",
        "|---|---|---|---|",
    ]
    for name, count in sorted(used.items()):
        air = COUNTERPARTS[name]
        there = sum(library.using(air) for library in libraries) if air else "not known"
        lines.append(
            f"| `{name}` | {count} | {f'`{air}`' if air else 'an instruction'} | {there} |"
        )
    codes = [code for library in libraries for code in library.kernels.values()][::step]
    theirs, alone = Counter[tuple[str, ...]](), 0
    for apple in map(disassembled, codes):
        theirs.update(accesses(apple))
        alone += "air-buffer-no-alias" in apple
    ours = Counter(access for text in texts for access in accesses(text))
    lines += [
        "",
        f"| our shader's access | variants | kernels, of each {step}th |",
        "|---|---|---|",
    ]
    spaces = {"1": "device", "2": "constant", "3": "threadgroup"}
    for (what, kind, space, align), count in sorted(ours.items()):
        there = theirs[what, kind, space, align]
        on = align and f", on {align} bytes"
        lines.append(f"| {what} {spaces[space]} `{kind}`{on} | {count} | {there} |")
    lines += ["", f"Of those {len(codes)} kernels {alone} have buffers that may not overlap."]
    return lines


# ---- the page

MARKS = ("<!-- apple_evidence.py -->", "<!-- end -->")


def main() -> int:
    """Prints what was found, and writes it between the marks of a page; 1 if bits differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", type=Path, help="a page to write the tables into")
    args = parser.parse_args()
    libraries = pytorch()
    count = sum(len(library.kernels) for library in libraries)
    flushing, careful = (
        sum(library.using(f"air.compile.{word}") for library in libraries)
        for word in ("denorms_disable", "fast_math_disable")
    )
    (buffers,) = {
        re.search(r'"air.max_device_buffers", i32 (\d+)', disassembled(code))[1]
        for code in list(libraries[0].kernels.values())[:10]
    }
    lines = [
        f"PyTorch {TORCH} for macOS has {count} kernels. Of them {flushing} may flush subnormals,",
        f"and {careful} were made without fast math. A kernel may have {buffers} buffers.",
        "",
        *tables(libraries),
        "",
        "| kernel of PyTorch, run on a CPU | results | differ | differ if not fused |",
        "|---|---|---|---|",
    ]
    wrong = 0
    for order in ("ncl", "nlc"):
        for kind, dtype in TYPES.items():
            name = f"conv1d_depthwise_{order}_{kind}"
            code = libraries[0].kernels[name]
            count, different = compared(Kernel(code, name), dtype)
            _, control = compared(Kernel(code, name, fused=False), dtype)
            # Products of 16-bit numbers are exact in float, so that there fusing changes nothing.
            wrong += different + ((control > 0) != (kind == "float"))
            lines.append(f"| `{name}` | {count} | {different} | {control} |")
    Console(highlight=False, markup=False, soft_wrap=True).print("\n".join(lines))
    if args.page:
        before, rest = args.page.read_text().split(MARKS[0])
        after = rest.split(MARKS[1])[1]
        args.page.write_text("\n".join([before + MARKS[0], "", *lines, "", MARKS[1] + after]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
