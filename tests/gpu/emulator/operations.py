"""Operations for the self test that Python has not."""

import ctypes

import torch
from driver import Gpu, handle_of

from causal_conv1d_mps._library import library
from causal_conv1d_mps.bounds import forward_error
from causal_conv1d_mps.selftest import WRONG

FLOAT32, MPS = 1, 1  # of include/causal_conv1d.h


class View(ctypes.Structure):
    """causal_conv1d_tensor."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("device", ctypes.c_int),
        ("device_index", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("size", ctypes.c_int64 * 3),
        ("stride", ctypes.c_int64 * 3),
        ("handle", ctypes.c_void_p),
    )


TENSORS = "x weight bias seq_idx cu_seqlens initial_states out final_states"


class Forward(ctypes.Structure):
    """causal_conv1d_forward_args."""

    _fields_ = (*((name, View) for name in TENSORS.split()), ("silu", ctypes.c_bool))


def view(tensor):
    """Of a float32 tensor; its handle lives as long as the process."""
    shape, stride, handle = tuple(tensor.shape), tensor.stride(), handle_of(tensor)
    return View(tensor.data_ptr(), FLOAT32, MPS, 0, tensor.ndim, shape, stride, handle)


def forward_in_place(make):
    """The forward with its final states in the memory of the initial ones, short and long."""
    for length in (2, 260):
        x, state, (weight, bias) = make.columns(2, length), make.columns(2, 3), make.parameters(4)
        before, out = state.clone(), torch.empty_like(x)
        tensors = {"x": x, "weight": weight, "bias": bias, "out": out}
        tensors |= {"initial_states": state, "final_states": state}
        arguments = Forward(**{name: view(t) for name, t in tensors.items()}, silu=True)
        error = ctypes.create_string_buffer(1024)
        if library.causal_conv1d_forward(ctypes.byref(arguments), None, error):
            raise RuntimeError(error.value.decode())
        right = torch.equal(state, torch.cat([before, x], -1)[..., -3:])
        bound = forward_error(out, x, weight, bias, "silu", initial_states=before)
        yield bound if right else WRONG


COPY = """#include <metal_stdlib>
kernel void copy(device const float *x [[buffer(0)]], device float *out [[buffer(1)]],
                 uint3 position [[thread_position_in_grid]])
{
    out[position.x] = x[position.x];
}
"""


def temporary(make):
    """A launch that reads a tensor which nobody else holds any more."""
    gpu, out = Gpu(library._name), make.normal(64)
    expected, function = torch.ones(64), gpu.function(COPY, "copy")

    def body():
        gpu.call("start_encoding", function)
        gpu.set(function, 0, expected.clone())
        gpu.set(function, 1, out)
        gpu.dispatch(function, [64], [64])

    gpu.block(function, body)
    yield 0.0 if torch.equal(out, expected) else WRONG
