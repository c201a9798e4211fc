"""The shader behind metal_on_cuda.h compiles for every NVIDIA architecture in use; needs no GPU."""

import ctypes
from importlib.util import find_spec
from pathlib import Path

import pytest
from shader import GPU, shader_text

pytestmark = pytest.mark.cpu_only

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100")
TYPES = ("float", "half", "bfloat")
OPTIONS = {
    "plain": {},
    "packed": {"PACKED": 1, "INITIAL": 1, "FINAL": 1, "ID": "long", "INDEX": "long"},
    "seq_idx": {"SEQ_IDX": 1, "INITIAL": 1, "SILU": 0, "HAS_BIAS": 0},
}
PATHS = {  # the kernels with what they are compiled with, at least once each
    "forward_time": ({"VECTOR": 16}, {"VECTOR": 16, "ROWS": 2}, {"WIDTH": 8}, {"WIDTH": 257}),
    "forward_dim": ({"VECTOR": 4, "ROWS": 16}, {"VECTOR": 8, "WIDTH": 2}, {"WIDTH": 8, "ROWS": 4}),
    "forward_wide_time": ({"VECTOR": 16, "WIDTH": 9}, {"WIDTH": 33}, {"VECTOR": 16, "WIDTH": 256}),
    "forward_wide_dim": ({"WIDTH": 9}, {"WIDTH": 128}, {"WIDTH": 256}),
    "backward_time": ({"VECTOR": 16}, {"VECTOR": 16, "WIDTH": 8}, {"WIDTH": 2}),
    "backward_dim": ({"VECTOR": 8, "ROWS": 8}, {"WIDTH": 8, "ROWS": 4}),
    "backward_any_width": ({"WIDTH": 1}, {"WIDTH": 12}),
    "sums_any_width": ({"WIDTH": 1}, {"WIDTH": 12}),
    "backward_states": ({"WIDTH": 4}, {"WIDTH": 12}),
    "reduce": ({},),
    "states": ({},),
    "update": (
        {"SINGLE": 4, "VECTOR": 16, "INDEXED": 1, "ROW": "long"},
        {"SINGLE": 3, "WIDTH": 3},
        {"RING": 1, "INDEXED": 1, "WIDTH": 9},
    ),
}


def nvrtc():
    """NVRTC of the package nvidia-cuda-nvrtc, or of the one that PyTorch brings."""
    spec = find_spec("nvidia")
    for place in spec.submodule_search_locations if spec else ():
        for name in sorted(Path(place).rglob("libnvrtc.so.*"), reverse=True):
            return ctypes.CDLL(str(name))
    pytest.skip("nvidia-cuda-nvrtc is not installed")


def compile_text(text, architecture):
    """NVRTC's status and log."""
    library, program = nvrtc(), ctypes.c_void_p()
    names = (ctypes.c_char_p * 1)(b"metal_stdlib")
    status = library.nvrtcCreateProgram(
        ctypes.byref(program), text.encode(), b"shader", 1, (ctypes.c_char_p * 1)(b""), names
    )
    assert status == 0
    options = [b"-default-device", b"-std=c++17", b"-diag-suppress=1097", b"-Werror=all-warnings"]
    options.append(f"-arch={architecture}".encode())
    status = library.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return status, log.value.decode()


def text_of(kernel, **macros):
    """What src/gpu/cuda.c compiles."""
    macros = {"KERNEL": f"CC1D_{kernel.upper()}"} | macros
    preamble = "".join(f"#define {name} {value}\n" for name, value in macros.items())
    parts = [(GPU / name).read_text() for name in ("args.h", "metal_on_cuda.h")]
    shader = '#line 1 "causal_conv1d.metal"\n' + shader_text()
    return "".join([*parts, preamble, shader, f"\nKERNEL_ENTRY({kernel})\n"])


def variants():
    for kernel, paths in PATHS.items():
        for i, path in enumerate(paths):
            for j, (option, macros) in enumerate(OPTIONS.items()):
                value = TYPES[(i + j) % 3]
                # A byte count above; along the time a vector has 16 bytes.
                size = 4 if value == "float" else 2
                vector = max(1, path.get("VECTOR", 1) // size)
                if path.get("SINGLE"):
                    vector = path["SINGLE"] if "VECTOR" in path and size == 2 else 1
                types = {"VALUE": value, "WEIGHT": TYPES[(i + j + i % 2) % 3], "BIAS": value}
                yield kernel, types | macros | path | {"VECTOR": vector}, f"{kernel}-{i}-{option}"


CASES = list(variants())


@pytest.mark.parametrize("case", range(len(CASES)), ids=[name for *_, name in CASES])
def test_variants_compile(case):
    """One architecture each, in turn."""
    kernel, macros, _ = CASES[case]
    status, log = compile_text(text_of(kernel, **macros), ARCHITECTURES[case % 4])
    assert status == 0, log


def test_a_fault_is_seen():
    text = text_of("reduce").replace("float sum = 0.0f;", "float sum = nothing;")
    status, log = compile_text(text, "sm_90")
    assert status != 0 and "nothing" in log
