"""What results are compared with: float64 references, and the bounds of docs/numerics.md."""

import torch.nn.functional as F

import torch
from causal_conv1d_mps import causal_conv1d_ref

LAYOUTS = ("channel-first", "channels-last", "padded", "strided")
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


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


def _double(*tensors):
    return [None if t is None else t.detach().double() for t in tensors]


def unit(dtype):
    """Half an ulp, relative, of the type that dtype accumulates in."""
    return 2.0**-53 if dtype == torch.float64 else 2.0**-24


def assert_between(out, reference, tolerance):
    """out is the rounding to its dtype of a value within tolerance of the float64 reference."""
    low, high = (reference - tolerance).to(out.dtype), (reference + tolerance).to(out.dtype)
    ok = (out >= low) & (out <= high)
    worst = ((out.double() - reference).abs() / tolerance).nan_to_num(float("inf"))
    assert ok.all(), f"{(~ok).sum()} of {ok.numel()} wrong, worst {worst.max():.3g} tolerances"


def assert_forward(out, x, weight, bias, activation):
    """Checks a forward result against float64."""
    assert out.shape == x.shape and out.dtype == x.dtype
    x64, w64, b64 = _double(x, weight, bias)
    v = causal_conv1d_ref(x64, w64, b64)
    size = causal_conv1d_ref(x64.abs(), w64.abs(), None if b64 is None else b64.abs())
    # W fma of unit roundoff each; fp64 parameters of a smaller x are rounded first.
    u = unit(x.dtype)
    tolerance = (weight.shape[1] + 3) * u * size
    if activation is not None:  # |silu'| <= 1.1, and 8 units of its own
        tolerance, v = 1.1 * tolerance, F.silu(v)
        tolerance = tolerance + 8 * u * v.abs() + 2e-36
    assert_between(out, v, tolerance + 1e-300)


def assert_backward(grads, dout, x, weight, bias, activation):
    """Checks (dx, dweight, dbias) against float64 autograd of the reference."""
    inputs = [t.requires_grad_() for t in _double(x, weight, bias) if t is not None]
    out = causal_conv1d_ref(*inputs, *[None] * (3 - len(inputs)), activation)
    expected = torch.autograd.grad(out, inputs, dout.double())
    # The same sums over absolute values bound the rounding errors of each gradient.
    x64, w64 = inputs[0].detach(), inputs[1].detach()
    width, u = weight.shape[1], unit(x.dtype)
    v = causal_conv1d_ref(*[t.detach() for t in inputs], *[None] * (3 - len(inputs)))
    size = causal_conv1d_ref(x64.abs(), w64.abs(), None if bias is None else bias.double().abs())
    g, g_error = dout.double().abs(), torch.zeros_like(v)
    if activation is not None:
        # silu' is at most 1.1, |silu''| at most 0.5; 32 units for silu' itself.
        g_error = g * u * (0.5 * (width + 3) * size + 32)
        s = torch.sigmoid(v)
        g = g * (s * (1 + v * (1 - s))).abs()
    steps = x.shape[0] * x.shape[2] + 8  # a sum of n terms errs by at most n units of its size

    absolute = [x64.abs().requires_grad_(), w64.abs().requires_grad_()]

    def through(gradient):
        return torch.autograd.grad(causal_conv1d_ref(*absolute), absolute, gradient)

    (scale_x, scale_w), (error_x, error_w) = through(g), through(g_error)
    tolerances = [
        (width + 4) * u * scale_x + error_x,
        steps * u * scale_w + error_w,
        steps * u * g.sum((0, 2)) + g_error.sum((0, 2)),
    ]
    given = [x, weight, bias][: len(inputs)]
    for grad, reference, tolerance, tensor in zip(grads, expected, tolerances, given, strict=False):
        assert grad.shape == tensor.shape and grad.dtype == tensor.dtype
        assert_between(grad, reference, tolerance + 1e-300)
