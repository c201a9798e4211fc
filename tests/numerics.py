"""Where the tests run and what holds there; tensors to test with; results against float64."""

import math
import os
from dataclasses import dataclass

import torch

from causal_conv1d_mps.bounds import backward_errors, forward_error

LAYOUTS = ("channel-first", "channels-last", "padded", "strided")


@dataclass
class Device:
    """The device of the tests, and how far the contract goes there.

    ``emulated``: CPU tensors are served by the GPU kernels on an emulator, so that the rules of
    a GPU hold: no float64 x, and no check of cu_seqlens' and conv_state_indices' values, which
    would make the host wait for the device.
    ``fallback``: plain PyTorch serves in place of the C library; its bits are not promised.
    """

    name: str = "cpu"
    emulated: bool = False
    fallback: bool = False

    @property
    def is_gpu(self):
        return self.emulated or self.name != "cpu"

    @property
    def flushes(self):
        """Whether it takes subnormals of float32 for zero, as Apple's compiler has it."""
        emulated = self.emulated and bool(os.environ.get("CAUSAL_CONV1D_EMULATOR_FLUSH"))
        return emulated or self.name == "mps"

    @property
    def dtypes(self):
        """Of x."""
        return [torch.float32, torch.float16, torch.bfloat16] + [torch.float64] * (not self.is_gpu)

    @property
    def parameter_dtypes(self):
        """Of weight and bias: Apple's GPUs have no float64 at all."""
        half_or_single = [torch.float32, torch.float16, torch.bfloat16]
        return half_or_single + [torch.float64] * (self.name != "mps" and not self.emulated)

    def affordable(self, *shapes):
        """All of the shapes, or on the emulator those that are not too large."""
        return [s for s in shapes if not self.emulated or math.prod(s) <= 2**17]


DEVICE = Device()  # conftest.py fills it in before any test is imported


def make(batch, dim, seqlen, dtype=torch.float32, layout="channel-first"):
    """A random (batch, dim, seqlen) tensor in one of LAYOUTS."""
    if layout == "channel-first":
        return torch.randn(batch, dim, seqlen, dtype=dtype)
    if layout == "channels-last":
        return torch.randn(batch, seqlen, dim, dtype=dtype).transpose(1, 2)
    if layout == "padded":  # a slice of a wider projection, as in Mamba-2
        return torch.randn(batch, seqlen, 2 * dim + 3, dtype=dtype)[:, :, 3 : dim + 3].mT
    return torch.randn(batch, dim, 2 * seqlen, 2, dtype=dtype)[:, :, ::2, 1]


def parameters(dim, width, dtype=torch.float32, bias=True, bias_dtype=None):
    """Random weight (dim, width) and bias (dim,) or None."""
    weight = torch.randn(dim, width, dtype=dtype)
    return weight, torch.randn(dim, dtype=bias_dtype or dtype) if bias else None


def on_cpu(value):
    """A tensor, or those in a list or dict of tensors and anything else, on the CPU."""
    if isinstance(value, dict):
        return {k: on_cpu(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [on_cpu(v) for v in value]
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value


def assert_same(actual, expected):
    """Tensors or lists of them: to the bit, or nearly where plain PyTorch serves."""
    tolerance = 1e-5 if DEVICE.fallback else 0
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


def assert_forward(out, x, *arguments, **sequences):
    """Checks a forward result against float64."""
    assert out.shape == x.shape and out.dtype == x.dtype and out.device == x.device
    error = forward_error(out, x, *arguments, flushes=DEVICE.flushes, **sequences)
    assert error <= 1, f"{error} tolerances"


def assert_backward(grads, dout, x, weight, bias, *arguments, initial_states=None, **sequences):
    """Checks the gradients of those of (x, weight, bias, initial_states) that are not None against
    float64 autograd of the reference."""
    given = [t for t in (x, weight, bias, initial_states) if t is not None]
    for grad, tensor in zip(grads, given, strict=True):
        assert grad.shape == tensor.shape and grad.dtype == tensor.dtype
        assert grad.device == tensor.device
    errors = backward_errors(
        grads, dout, x, weight, bias, *arguments, initial_states=initial_states,
        flushes=DEVICE.flushes, **sequences,
    )  # fmt: skip
    assert max(errors) <= 1, f"{errors} tolerances"
