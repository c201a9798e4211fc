"""The emulated GPU itself, with toy shaders: what it runs, and what it refuses."""

import array
import ctypes
import functools
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from driver import Error, Gpu, sanitized

HEADER = """#include <metal_stdlib>
using namespace metal;
"""
ELEMENTWISE = (
    HEADER
    + """
kernel void twice(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                  constant long &width [[buffer(2)]], constant long &height [[buffer(3)]],
                  uint3 position [[thread_position_in_grid]])
{
    long at = position.x + width * (position.y + height * position.z);
    out[at] += 2 * x[at];
}
"""
)
SUMS = (
    HEADER
    + """
kernel void sums(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                 uint3 position [[thread_position_in_grid]])
{
    threadgroup float part[2][32];
    uint lane = position.x % 64;
    part[lane / 32][lane % 32] = x[position.x];
#ifdef BARRIER
    threadgroup_barrier(mem_flags::mem_threadgroup);
#endif
    if (lane != 0) return;
    float sum = 0;
    for (int i = 0; i < COUNT; i++) sum += part[i / 32][i % 32];
    out[position.x / EVERY] = sum;
}
"""
)
SCAN = (
    HEADER
    + """
kernel void scan(device const int *x [[buffer(0)]], device int *out [[buffer(1)]],
                 uint3 position [[thread_position_in_grid]])
{
    int sum = x[position.x], lane = position.x % 32;
    for (ushort step = 1; step < 32; step *= 2) {
        int below = simd_shuffle_up(sum, step);
        sum += lane >= step ? below : 0;
    }
    out[position.x] = sum;
}
"""
)
DIVERGE = (
    HEADER
    + """
kernel void diverge(device float *out [[buffer(0)]], uint3 position [[thread_position_in_grid]])
{
    uint lane = position.x;
    float value = lane;
    BODY
    out[lane] = value;
}
"""
)


@functools.cache
def gpu() -> Gpu:
    return Gpu()


def sums(barrier: str, count: int = 64, every: int = 64, groups: int = 3):
    """(what SUMS makes of some x, what it should)."""
    defines = f"{barrier}\n#define COUNT {count}\n#define EVERY {every}\n#line 1\n"
    x, out = torch.randn(64 * groups), torch.zeros(groups)
    gpu().launch(defines + SUMS, "sums", [x, out], [64 * groups], [64])
    return out, x.view(groups, 64).sum(1)


BARRIER = "#define BARRIER"


def test_every_thread_of_a_ragged_grid_runs_once():
    x, out = torch.randn(2, 5, 70), torch.zeros(2, 5, 70)
    gpu().launch(ELEMENTWISE, "twice", [x, out, 70, 5], [70, 5, 2], [32, 2, 1])
    assert torch.equal(out, 2 * x)


def test_barrier():
    out, expected = sums(BARRIER)
    torch.testing.assert_close(out, expected)


def test_threadgroup_memory_starts_as_nan():
    """And again for every group; without the barrier the first thread runs before the others."""
    out, _ = sums("")
    assert out.isnan().all()


def test_kernels_that_never_wait_and_those_that_do_give_the_same_over_many_groups():
    out, expected = sums(BARRIER, groups=500)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("size", [64, 40])  # two SIMD groups, the second of 8 lanes
def test_shuffle_scan(size):
    x = torch.arange(size, dtype=torch.int32) * 7 % 11
    out = torch.zeros_like(x)
    gpu().launch(SCAN, "scan", [x, out], [size], [64])
    expected = torch.cat([part.cumsum(0) for part in x.split(32)])
    assert torch.equal(out, expected.int())


@pytest.mark.parametrize(
    "function, expected",
    [
        ("simd_shuffle(value, ushort((lane + 3) % 32))", lambda i: (i + 3) % 32),
        ("simd_shuffle_down(value, 4)", lambda i: i + 4 if i < 28 else i),
        ("simd_shuffle_up(value, 4)", lambda i: i - 4 if i >= 4 else i),
        ("simd_shuffle_xor(value, 5)", lambda i: i ^ 5),
        ("simd_broadcast(value, 9)", lambda i: 9),
        ("simd_sum(value)", lambda i: 496),
        ("simd_max(value)", lambda i: 31),
        ("float(simd_any(lane == 7))", lambda i: 1),
        ("float(simd_all(lane != 7))", lambda i: 0),
    ],
)
def test_simd_functions(function, expected):
    out = torch.zeros(32)
    gpu().launch(DIVERGE.replace("BODY", f"value = {function};"), "diverge", [out], [32], [32])
    assert out.tolist() == [expected(i) for i in range(32)]


ONE = "threadgroup_barrier(mem_flags::mem_threadgroup);"


@pytest.mark.parametrize(
    "body, message",
    [
        (f"if (lane < 8) {ONE}", "threads of a group diverge.*line 8.*has returned"),
        (f"if (lane < 40) {ONE}\n else {ONE}", "diverge.*line 8.*line 9"),
        (f"if (lane == 63) return; {ONE}", "diverge.*line 8.*has returned"),
        (f"if (lane < 3) value = simd_sum(value); {ONE}", "diverge"),
        ("if (lane < 3) value = simd_sum(value);\nelse value = simd_max(value);", "SIMD.*diverge"),
        (
            f"if (lane < 3) value = simd_sum(value);\n{ONE}",
            "simd_sum in line 8.*threadgroup_barrier",
        ),
        ("if (lane == 5) return; value = simd_shuffle_up(value, 1);", "lane that is not there"),
        ("value = simd_shuffle(value, 32);", "simd_shuffle in line 8.*not there"),
    ],
)
def test_divergence_is_an_error(body, message):
    out = torch.zeros(64)
    shader = DIVERGE.replace("BODY", body)
    for _ in range(2):  # and leaves nothing behind
        with pytest.raises(Error, match=message):
            gpu().launch(shader, "diverge", [out], [64], [64])
    test_barrier()


def test_returned_lanes_take_no_part():
    out = torch.zeros(32)
    body = "if (lane >= 8) return; value = simd_sum(value);"
    gpu().launch(DIVERGE.replace("BODY", body), "diverge", [out], [32], [32])
    assert out.tolist() == [28] * 8 + [0] * 24


@pytest.mark.parametrize("group", [[2048, 1, 1], [32, 33, 1], [32, 0, 1], [1 << 32, 1 << 32, 1]])
def test_group_sizes(group):
    x = torch.zeros(4, 8)
    with pytest.raises(Error, match="Threadgroup size"):
        gpu().launch(ELEMENTWISE, "twice", [x, x, 8, 4], [8, 4, 1], group)
    with pytest.raises(Error, match="same number of dimensions"):
        gpu().launch(ELEMENTWISE, "twice", [x, x, 8, 4], [8, 4], group)
    with pytest.raises(Error, match="a grid of 0 threads"):
        gpu().launch(ELEMENTWISE, "twice", [x, x, 8, 4], [8, 0, 1], [8, 1, 1])


X = torch.zeros(8)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([X, X, X, 1], "slot 2 takes an integer, got a tensor"),
        ([X, 8, 8, 1], "slot 1 takes a tensor, got an integer"),
        ([X, X, 8], "slot 3 is not set"),
        ([X, X, 8, 1, 1], "no argument slot 4"),
    ],
)
def test_slots(arguments, message):
    with pytest.raises(Error, match=message):
        gpu().launch(ELEMENTWISE, "twice", arguments, [8], [8])


def test_order_of_calls():
    twice, other = gpu().function(ELEMENTWISE, "twice"), gpu().function(SCAN, "scan")

    def start(function):
        gpu().call("start_encoding", function)

    for call in (
        lambda: start(twice),
        lambda: gpu().set(twice, 0, X),
        lambda: gpu().dispatch(twice, [8], [8]),
    ):
        with pytest.raises(Error, match="outside of a command block"):
            call()
    with pytest.raises(Error, match="encoding was started last"):
        gpu().block(twice, lambda: gpu().set(twice, 0, X))
    with pytest.raises(Error, match="encoding was started last"):
        gpu().block(twice, lambda: (start(twice), start(other), gpu().set(twice, 0, X)))
    with pytest.raises(Error, match="inside another"):
        gpu().block(twice, lambda: gpu().block(twice, lambda: None))
    with pytest.raises(Error, match="slot 0 is not set"):  # nothing is left from the first
        gpu().block(
            twice,
            lambda: (
                start(twice),
                [gpu().set(twice, i, v) for i, v in enumerate([X, X, 8, 1])],
                gpu().dispatch(twice, [8], [8]),
                start(twice),
                gpu().dispatch(twice, [8], [8]),
            ),
        )


def test_a_block_fails_though_its_callback_does_not_look():
    function = gpu().function(DIVERGE.replace("BODY", f"if (lane < 8) {ONE}"), "diverge")

    def body():
        gpu().call("start_encoding", function)
        gpu().set(function, 0, torch.zeros(64))
        with pytest.raises(Error):
            gpu().dispatch(function, [64], [64])

    with pytest.raises(Error, match="diverge"):
        gpu().block(function, body)


@pytest.mark.parametrize("loss", ["freed", "given other memory"])
@pytest.mark.parametrize("end", ["right", "a launch fails", "the callback raises"])
def test_what_is_encoded_lives_until_its_block_ends(end, loss):
    """As with Metal, whose command buffers retain it."""
    barrier = f"if (lane < 8) {ONE}" if end == "a launch fails" else ""
    function = gpu().function(DIVERGE.replace("BODY", barrier), "diverge")
    owner = array.array("f", [7] * 64)
    lives, tensors = weakref.ref(owner), [torch.frombuffer(owner, dtype=torch.float32)]
    del owner

    def body():
        gpu().call("start_encoding", function)
        gpu().set(function, 0, tensors[0])
        if loss == "freed":
            tensors.clear()
        else:
            tensors[0].data = torch.zeros(1)
        assert lives() is not None
        if end == "the callback raises":
            raise Error("on purpose")
        gpu().dispatch(function, [64], [64])
        assert lives().tolist() == list(range(64))

    if end == "right":
        gpu().block(function, body)
    else:
        with pytest.raises(Error, match="diverge" if end == "a launch fails" else "on purpose"):
            gpu().block(function, body)
    assert lives() is None
    test_barrier()  # nothing of the block is left


def test_texts():
    with pytest.raises(Error, match=r"program_source:8:.*nothing"):
        gpu().function(ELEMENTWISE.replace("position.x +", "nothing +"), "twice")
    with pytest.raises(Error, match="Failed to create function state object for: thrice"):
        gpu().function(ELEMENTWISE, "thrice")
    with pytest.raises(Error, match="a parameter must be a device pointer or `constant long &`"):
        gpu().function(ELEMENTWISE.replace("constant long", "constant int"), "twice")
    with pytest.raises(Error, match="32800 bytes of threadgroup memory"):
        large = f"threadgroup float many[8200];\n{ONE}\nmany[lane] = 1; value = many[lane ^ 1];"
        gpu().function(DIVERGE.replace("BODY", large), "diverge")


CONVERT = (
    HEADER
    + """
kernel void convert(device const FROM *x [[buffer(0)]], device TO *out [[buffer(1)]],
                    uint3 position [[thread_position_in_grid]])
{
    out[position.x] = TO(x[position.x]);
}
"""
)
NAMES = {torch.float32: "float", torch.float16: "half", torch.bfloat16: "bfloat"}


def converted(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    out = torch.empty_like(x, dtype=dtype)
    defines = f"#define FROM {NAMES[x.dtype]}\n#define TO {NAMES[dtype]}\n"
    gpu().launch(defines + CONVERT, "convert", [x, out], [x.numel()], [256])
    return out


@pytest.mark.parametrize("flush", [False, True])
def test_subnormals_of_float_are_zero_if_asked(flush, monkeypatch):
    """As operands and as results; those of half are normal floats, and the caller keeps its own."""
    if flush:
        monkeypatch.setenv("CAUSAL_CONV1D_EMULATOR_FLUSH", "1")
    x, out = torch.tensor([2.0**-140, 1.5 * 2.0**-126, 2.0**-125]), torch.empty(3)
    body = "    out[lane] = lane == 0 ? value * 0x1p20f : value * (lane == 1 ? 0.5f : 1.0f);"
    text = DIVERGE.replace("float value = lane;", "float value = x[lane];").replace("BODY", "")
    text = text.replace(
        "device float *out [[buffer(0)]]",
        "device const float *x [[buffer(0)]], device float *out [[buffer(1)]]",
    )
    text = text.replace("    out[lane] = value;", body)  # fmt: skip
    gpu().launch(text, "diverge", [x, out], [3], [32])
    exact = [2.0**-120, 1.5 * 2.0**-127, 2.0**-125]
    assert out.tolist() == ([0, 0, exact[2]] if flush else exact)
    assert (x[0] * 2.0**20).item() == exact[0]
    every = torch.arange(1 << 10, dtype=torch.int16).view(torch.float16)
    assert torch.equal(converted(every, torch.float32), every.float())
    assert torch.equal(converted(every.float(), torch.float16), every)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_conversions(dtype):
    """Each pattern, floats on and beside the ties between any two, and random ones, as PyTorch."""

    def check(x, to):
        out, expected = converted(x, to), x.to(to)
        assert torch.equal(out.isnan(), expected.isnan())
        bits = torch.int32 if to == torch.float32 else torch.int16
        there = ~expected.isnan()
        assert torch.equal(out.view(bits)[there], expected.view(bits)[there])

    every = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype)
    check(every, torch.float32)
    wide = every.double()
    ties = ((wide + wide.roll(1)) / 2).float()
    for x in (ties, *(torch.nextafter(ties, torch.tensor(end)) for end in (-torch.inf, torch.inf))):
        check(x, dtype)
    check(
        torch.randint(-(1 << 31), 1 << 31, (1 << 20,), dtype=torch.int32).view(torch.float32), dtype
    )


RUN = "import test_emulator as t; t.test_barrier(); "
CLEAN = (
    RUN
    + "t.test_shuffle_scan(40); t.test_returned_lanes_take_no_part(); print('clean', flush=True); "
)


def rounds(after_writing: str, after_reading: str):
    """Two rounds of handing a value to another thread of the group."""
    body = f"""threadgroup float part[64];
    for (int i = 0; i < 2; i++) {{
        part[lane] = value;
        {after_writing}
        value = part[63 - lane];
        {after_reading}
    }}"""
    out = torch.zeros(64)
    shader = DIVERGE.replace("diverge", "rounds").replace("BODY", body)
    gpu().launch(shader, "rounds", [out], [64], [64])
    if after_reading:
        assert out.tolist() == list(range(64))
    print("round", flush=True)


def run_sanitized(sanitizer: str, code: str) -> subprocess.CompletedProcess:
    return sanitized(sanitizer, "-c", CLEAN + code, capture_output=True)


def test_races_are_found():
    run = run_sanitized("thread", "t.sums('')")
    assert run.stdout == "clean\n" and run.returncode == 66, run.stderr
    assert "data race" in run.stderr and "program_source:15" in run.stderr, run.stderr
    # A thread writes for the next round what another may not have read in this one.
    run = run_sanitized("thread", f"t.rounds('{ONE}', '{ONE}'); t.rounds('{ONE}', '')")
    assert run.stdout == "clean\nround\n" and run.returncode == 66, run.stderr
    assert "data race" in run.stderr and "in rounds" in run.stderr, run.stderr
    # Two groups write one element.
    run = run_sanitized("thread", "t.sums(t.BARRIER, every=128)")
    assert run.stdout == "clean\n" and run.returncode == 66, run.stderr
    assert "data race" in run.stderr and "program_source:16" in run.stderr, run.stderr


def test_out_of_bounds_is_found():
    run = run_sanitized("address", "t.sums(t.BARRIER, every=16)")  # out has 3 elements
    assert run.stdout == "clean\n" and run.returncode, run.stderr
    assert "heap-buffer-overflow" in run.stderr and "program_source:16" in run.stderr, run.stderr
    run = run_sanitized("address", "t.sums(t.BARRIER, count=65)")  # part has 64
    assert run.stdout == "clean\n" and run.returncode, run.stderr
    assert "program_source:15" in run.stderr, run.stderr


def test_processes_may_compile_the_same_text_at_once(tmp_path):
    gpu()  # built
    command = [sys.executable, "-c", RUN]
    variables = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent),
        "CAUSAL_CONV1D_EMULATOR_CACHE": str(tmp_path),
    }
    processes = [subprocess.Popen(command, env=variables) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert [path.suffix for path in tmp_path.iterdir()] == [".so"]


def test_the_interface_is_that_of_pytorch():
    """All that our library takes from PyTorch's Metal interface is here."""
    library = ctypes.CDLL(str(gpu().path))
    header = Path(__file__).parents[3] / "src" / "core" / "libtorch.h"
    names = {word for word in header.read_text().replace(",", " ").split() if "torch_mps_" in word}
    assert names and all(hasattr(library, name) for name in names)
