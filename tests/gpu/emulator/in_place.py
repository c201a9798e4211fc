"""The forward called from C with its final states in the memory of the initial ones, as Python
never does: an operation for the self test."""

import ctypes

import torch
from driver import handle_of

from causal_conv1d_mps._library import library
from causal_conv1d_mps.bounds import forward_error

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
    """Yields the errors of a short and a long call."""
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
        yield bound if right else float("inf")
